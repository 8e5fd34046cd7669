"""ONNX Runtime: the engine is the lowered ONNX file itself, checked by loading it. Needs onnxruntime and numpy."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from mmap import ACCESS_READ, mmap
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import onnxruntime as ort

from autovoice.backends.base import HOST, Shared, run_error
from autovoice.backends.build import BuildRequest, Delivered
from autovoice.backends.engine import Engine
from autovoice.backends.onnxruntime.external_data import external_data
from autovoice.backends.onnxruntime.options import CPU, check_options
from autovoice.errors import ArtefactError, BuildError, choices, first_line
from autovoice.onnx_tools.ort import NO_OVERFLOW
from autovoice.spec import WORKER

_LEVELS = {
    "disabled": ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
    "basic": ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    "extended": ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    "all": ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
}
_WARNING_OFF = 3  # errors only: ORT warns of initializers it removes, on every load


class OnnxRuntime:
    """Options: `providers` (exactly these), `graph_optimization_level`, `intra_op_num_threads` (0: all cores)."""

    suffix = ".onnx"

    def __init__(self, options: Mapping[str, Any]) -> None:
        check_options(options)
        self.providers = list(options.get("providers") or [CPU])
        self.level = _LEVELS[options.get("graph_optimization_level", "all")]
        self.threads = options.get("intra_op_num_threads", 0)

    def engine_from_onnx(self, request: BuildRequest) -> Delivered:
        from autovoice.measure.precision import count_initializers, count_nodes, count_weights
        from autovoice.store.atomic import link_or_copy

        engine = request.engine
        link_or_copy(request.model, engine)
        with tempfile.TemporaryDirectory(dir=engine.parent) as folder:
            optimized = Path(folder) / "optimized.onnx"
            self._session(engine, optimized)
            # what runs may differ from what stands in the file: a CPU has no float16 convolution, and
            # ONNX Runtime computes in float32 between casts
            executed = count_weights(optimized)
        return Delivered(
            file=count_nodes(engine),
            heavy=count_nodes(engine, heavy=True),
            weights=count_initializers(engine),
            executed=executed,
            more={"providers": self.providers},
        )

    def session_from_engine(self, engine: Engine, outputs: tuple[str, ...], shared: Shared | None = None) -> OrtSession:
        """Raises ArtefactError for an engine that has part of its weights in other files."""
        _check_whole(engine)
        return OrtSession(self._session(engine), outputs)

    def _session(self, engine: Engine, optimized: Path | None = None) -> ort.InferenceSession:
        missing = [p for p in self.providers if p not in ort.get_available_providers()]
        if missing:
            raise BuildError(
                f"onnxruntime has no {missing[0]} here",
                f"available: {choices(ort.get_available_providers())}; backend.options.providers=[{CPU}]",
            )
        options = ort.SessionOptions()
        options.graph_optimization_level = self.level
        options.intra_op_num_threads = self.threads
        options.log_severity_level = _WARNING_OFF
        options.add_session_config_entry(*NO_OVERFLOW)
        if WORKER in os.environ:  # steps run side by side: threads that spin while they wait slow the others down
            options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        # within a run threads that spin are faster; after it they would take the cores of the engine that is next
        options.add_session_config_entry("session.force_spinning_stop", "1")
        if CPU not in self.providers:  # without this, nodes move to the CPU in silence
            options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
        if optimized is not None:
            options.optimized_model_filepath = str(optimized)
        path = os.fspath(engine)
        try:
            session = ort.InferenceSession(path, options, providers=self.providers)
        except Exception as e:  # onnxruntime raises a class of its own per status code, all plain Exceptions
            why = first_line(e).replace(path, str(engine))
            raise BuildError(f"onnxruntime cannot load {engine.name}: {why}", f"file: {engine}") from e
        got = [p for p in session.get_providers() if p in self.providers]
        if got != self.providers:
            raise BuildError(
                f"onnxruntime gave {session.get_providers()}, asked for {self.providers}",
                "install the provider's libraries, or choose another provider",
            )
        return session


class OrtSession:
    """One loaded model; `run` may be called from several threads."""

    memory = HOST
    notes = ()

    def __init__(self, session: ort.InferenceSession, outputs: tuple[str, ...]) -> None:
        self._run = session.run
        self._session: ort.InferenceSession | None = session
        self._outputs = list(outputs)

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        try:
            return dict(zip(self._outputs, self._run(self._outputs, feeds), strict=True))
        except Exception as e:  # onnxruntime raises a class of its own per status code, all plain Exceptions
            raise run_error("onnxruntime", e, feeds) from e

    def put(self, feeds: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        return feeds

    def wait(self) -> None:
        """Nothing: `run` returns when it is done."""

    def close(self) -> None:
        self._session = None
        self._run = _closed

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _check_whole(engine: Engine) -> None:
    """ONNX Runtime would read other files by itself, and no one has checked these."""
    with open(engine, "rb") as file:
        try:
            with mmap(file.fileno(), 0, access=ACCESS_READ) as content:
                outside = external_data(content)
        except ValueError as e:  # of an empty file too
            raise ArtefactError(f"{engine}: is not an ONNX file that can be read: {e}", "build it again") from e
    if outside:
        raise ArtefactError(
            f"{engine}: has tensors in other files, which the manifest does not list: {choices(outside)}",
            "build it again: an engine that autovoice writes is one file",
        )


def _closed(*_: Any) -> Any:
    raise BuildError("this session is closed", "load it again")


BACKEND = OnnxRuntime
