"""The backend of either tool: from a lowered ONNX file to an engine with its sidecar, and from there to a session."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from packaging.version import Version

from autovoice.backends.base import Session, Shared
from autovoice.cuda.device import gpus, why_none
from autovoice.errors import ArtefactError, BuildError, MismatchError, PrecisionError
from autovoice.machine import gpu_alone
from autovoice.measure.precision import heavy_types
from autovoice.trt import inspector
from autovoice.trt.builder import BuiltEngine, engine_from_request
from autovoice.trt.log import Log
from autovoice.trt.options import session_options
from autovoice.trt.request import Request
from autovoice.trt.sidecar import layers_of, read_sidecar, write_sidecar
from autovoice.trt.versions import Tool, features, imported

#: calls of the profile that tells how long each layer takes
_PROFILED = 20


class EngineBackend:
    """A subclass names its tool."""

    suffix = ".engine"
    tool: Tool

    def __init__(self, options: Mapping[str, Any]) -> None:
        self.options = options

    def engine_from_onnx(self, model: Path, engine: Path, fields: Mapping[str, Any]) -> dict[str, Any]:
        module = imported(self.tool)
        has = features(self.tool, Version(module.__version__))
        request, log = Request.of(model, self.options, fields), Log(module)
        with gpu_alone():  # tactics are timed: another build beside would be in the times
            try:
                made = engine_from_request(module, has, request, log)
            finally:
                engine.with_name("builder.log").write_text(log.text())
            engine.write_bytes(made.plan)
            if made.calibration_cache is not None:
                engine.with_name("calibration.cache").write_bytes(made.calibration_cache)
            beside = [write_sidecar(engine, self._sidecar(module.__version__, made, request)).name]
            if has.ahead_of_time and not self._runs_here(request.environment):
                return {**made.types, "told_by": "network", "beside": beside}
            layers = self._layers(module, engine, request, log)
        layers_of(engine).write_text(inspector.dump(layers))
        _check_types(layers, model, request)
        told = {**inspector.summary(layers), "told_by": "inspector"}
        if request.implicit is None and not told["heavy"]:  # kernels that fuse everything tell their borders alone
            told |= {"file": made.types["file"], "told_by": "network"}
        return told | {"beside": [*beside, layers_of(engine).name]}

    def session_from_engine(self, engine: Path, outputs: tuple[str, ...], shared: Shared | None = None) -> Session:
        from autovoice.trt.session import EngineSession

        sidecar = read_sidecar(engine)
        try:
            module = imported(self.tool)
        except BuildError as e:
            raise MismatchError(f"{engine}: {e.fact}", e.fix) from e
        self._check_fits(engine, sidecar, module.__version__)
        return EngineSession(module, engine, sidecar, outputs, self._session_options(), shared, log=Log(module))

    def _session_options(self) -> dict[str, Any]:
        return asdict(session_options(self.options))

    def _sidecar(self, version: str, made: BuiltEngine, request: Request) -> dict[str, Any]:
        e = request.environment
        return {
            "tool": self.tool.name,
            "version": version,
            "gpu": e.get("gpu"),
            "compute_capability": e.get("compute_capabilities") or [e["compute_capability"]],
            "portable": request.options.hardware_compatibility != "none" or request.options.version_compatible,
            "inputs": dict(made.inputs),
            "outputs": dict(made.outputs),
            "profiles": [dict(profile) for profile in request.profiles],
        }

    def _runs_here(self, environment: Mapping[str, Any]) -> bool:
        return any(g.compute_capability in environment["compute_capabilities"] for g in gpus())

    def _check_fits(self, engine: Path, sidecar: Mapping[str, Any], version: str) -> None:
        """Raise MismatchError for an engine that this GPU or this version would refuse, or run wrongly."""
        rebuild = "build it again here, or on_mismatch=rebuild"
        if sidecar["tool"] != self.tool.name:
            raise ArtefactError(f"{engine}: is an engine of {sidecar['tool']}, not {self.tool.name}", "build it again")
        if sidecar["version"] != version and not sidecar["portable"]:
            raise MismatchError(
                f"{engine}: was built by {self.tool.name} {sidecar['version']}, here is {version}", rebuild
            )
        found = gpus()
        if not found:
            raise MismatchError(f"{engine}: needs an NVIDIA GPU, and there is none here: {why_none()}", _ELSEWHERE)
        if found[0].compute_capability not in sidecar["compute_capability"] and not sidecar["portable"]:
            built = ", ".join(sidecar["compute_capability"])
            have = f"{found[0].name} has {found[0].compute_capability}"
            raise MismatchError(f"{engine}: was built for compute capability {built}, {have}", rebuild)
        if sidecar["gpu"] not in (None, found[0].name) and not sidecar["portable"]:
            raise MismatchError(f"{engine}: was built on {sidecar['gpu']}, here is {found[0].name}", rebuild)

    def _layers(self, module: Any, engine: Path, request: Request, log: Log) -> list[inspector.Layer]:
        """What the inspector says, each layer timed where that is asked for."""
        from autovoice.trt.session import EngineSession

        outputs = tuple(read_sidecar(engine)["outputs"])
        options = {**self._session_options(), "cuda_graphs": False}
        with EngineSession(module, engine, read_sidecar(engine), outputs, options, log=log) as session:
            layers = inspector.layers_of(module, session.engine, heavy_types(onnx.load(request.model)))
            if not request.options.profile_layers:
                return layers
            return inspector.with_times(layers, session.profile(_noise(request), _PROFILED))


_ELSEWHERE = "backend=onnxruntime runs anywhere"


def _noise(request: Request) -> dict[str, np.ndarray]:
    """Inputs of the opt shape to be timed with, not judged by."""
    rng = np.random.default_rng(0)
    found = {}
    for name, t in request.inputs.items():
        shape = request.profiles[0][name]["opt"]
        kind = np.dtype(t["dtype"])
        found[name] = rng.standard_normal(shape).astype(kind) if kind.kind == "f" else np.ones(shape, kind)
    return found


def _check_types(layers: list[inspector.Layer], model: Path, request: Request) -> None:
    """Raise PrecisionError for convolutions and products that came out in another type than the graph gives them."""
    if request.implicit is not None:
        _check_share(layers, request)
        return
    asked = heavy_types(onnx.load(model))
    wrong = []
    for layer in (x for x in layers if x.heavy and x.type is not None):
        wanted = {asked[n] for node in layer.nodes for n in (node, *node.split("+")) if n in asked}
        if wanted and layer.type not in wanted:
            wrong.append((layer, wanted))
    floats = [(x, w) for x, w in wrong if not w & {"int8", "float8"}]
    if floats:
        layer, wanted = floats[0]
        fact = f"asked {' and '.join(sorted(wanted))}, but {len(floats)} layers are not: {layer.name} is {layer.type}"
        raise PrecisionError(fact, "the engine is not what was asked for; name the node in keep.nodes if that is meant")


def _check_share(layers: list[inspector.Layer], request: Request) -> None:
    assert request.implicit is not None
    least = request.implicit["min_share"]
    heavy = [x for x in layers if x.heavy and x.type is not None]
    share = sum(x.type == request.precision for x in heavy) / max(1, len(heavy))
    if least is not None and share < least:
        fact = f"asked {request.precision} for {least:.0%} of the heavy layers, the builder chose it for {share:.0%}"
        raise PrecisionError(fact, "precision=int8 quantizes by explicit pairs; or lower precision.implicit.min_share")
