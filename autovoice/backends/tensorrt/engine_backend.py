"""The backend of either tool: from a lowered ONNX file to an engine with its sidecar, and from there to a session."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from autovoice.backends.base import Session, Shared
from autovoice.backends.engine import Engine
from autovoice.backends.tensorrt.log import Log
from autovoice.backends.tensorrt.options import check_known, session_options
from autovoice.backends.tensorrt.sidecar import read_sidecar
from autovoice.backends.tensorrt.versions import Tool, imported
from autovoice.errors import ArtefactError, BuildError, MismatchError
from autovoice.machine.gpus import gpus, why_none

if TYPE_CHECKING:
    from autovoice.backends.build import BuildRequest, Delivered


class EngineBackend:
    """A subclass names its tool."""

    suffix = ".engine"
    tool: Tool

    def __init__(self, options: Mapping[str, Any]) -> None:
        check_known(options)
        self._session_options = asdict(session_options(options))
        self.options = options

    def engine_from_onnx(self, request: BuildRequest) -> Delivered:
        from autovoice.backends.tensorrt.make import make_engine

        return make_engine(self.tool, self.options, request)

    def code_in(self, engine: Engine) -> tuple[str, ...]:
        """An engine for several versions brings code of its own along, which runs on the host."""
        return (engine.name,) if read_sidecar(engine)["version_compatible"] else ()

    def session_from_engine(self, engine: Engine, outputs: tuple[str, ...], shared: Shared | None = None) -> Session:
        from autovoice.backends.tensorrt.session import EngineSession

        sidecar = read_sidecar(engine)
        try:
            module = imported(self.tool)
        except BuildError as e:
            raise MismatchError(f"{engine}: {e.fact}", e.fix) from e
        self._check_fits(engine, sidecar, module.__version__)
        return EngineSession(module, engine, sidecar, outputs, self._session_options, shared, log=Log(module))

    def _check_fits(self, engine: Engine, sidecar: Mapping[str, Any], version: str) -> None:
        """Raise MismatchError for an engine that this GPU or this version would refuse, or run wrongly."""
        rebuild = "build it again here, or on_mismatch=rebuild"
        if sidecar["tool"] != self.tool.name:
            raise ArtefactError(f"{engine}: is an engine of {sidecar['tool']}, not {self.tool.name}", "build it again")
        if sidecar["version"] != version and not sidecar["version_compatible"]:
            raise MismatchError(
                f"{engine}: was built by {self.tool.name} {sidecar['version']}, here is {version}", rebuild
            )
        found = gpus()
        if not found:
            raise MismatchError(f"{engine}: needs an NVIDIA GPU, and there is none here: {why_none()}", _ELSEWHERE)
        if found[0].compute_capability not in sidecar["compute_capability"] and not sidecar["hardware_compatible"]:
            built = ", ".join(sidecar["compute_capability"])
            have = f"{found[0].name} has {found[0].compute_capability}"
            raise MismatchError(f"{engine}: was built for compute capability {built}, {have}", rebuild)
        if sidecar["gpu"] not in (None, found[0].name) and not sidecar["hardware_compatible"]:
            raise MismatchError(f"{engine}: was built on {sidecar['gpu']}, here is {found[0].name}", rebuild)


_ELSEWHERE = "on_mismatch=onnxruntime builds what stands in for it where it does not run"
