"""The engine is the lowered ONNX file, with the name of the machine that it is for."""

from __future__ import annotations

import os
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator

from autovoice.backends.base import HOST, Shared, run_error
from autovoice.backends.build import BuildRequest, Delivered
from autovoice.backends.engine import Engine
from autovoice.errors import BuildError, MismatchError
from autovoice.measure.precision import count_nodes
from evaluator.environment import check_options


class Evaluator:
    """Options: `machine`, here or elsewhere."""

    suffix = ".model"

    def __init__(self, options: Mapping[str, Any]) -> None:
        self.machine = check_options(options)

    def engine_from_onnx(self, request: BuildRequest) -> Delivered:
        model = onnx.load(request.model)
        onnx.helper.set_model_props(model, {"machine": self.machine})
        onnx.save(model, request.engine)
        return Delivered(file=count_nodes(request.engine))

    def session_from_engine(self, engine: Engine, outputs: tuple[str, ...], shared: Shared | None = None) -> Evaluated:
        model = onnx.load(os.fspath(engine))
        machine = {p.key: p.value for p in model.metadata_props}.get("machine")
        if machine != "here":
            raise MismatchError(f"{engine}: was built for a machine {machine}", "build it again here")
        return Evaluated(ReferenceEvaluator(model), outputs)


class Evaluated:
    memory = HOST

    def __init__(self, evaluator: ReferenceEvaluator, outputs: tuple[str, ...]) -> None:
        self._evaluator: ReferenceEvaluator | None = evaluator
        self._outputs = outputs

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        if self._evaluator is None:
            raise BuildError("this session is closed", "load it again")
        try:
            return dict(zip(self._outputs, self._evaluator.run(list(self._outputs), dict(feeds)), strict=True))
        except Exception as e:  # its operators raise whatever numpy does
            raise run_error("evaluator", e, feeds) from e

    def put(self, feeds: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        return feeds

    def wait(self) -> None:
        """Nothing: `run` returns when it is done."""

    def close(self) -> None:
        self._evaluator = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
