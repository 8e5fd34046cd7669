"""TensorRT 10 and 11: engines built on the kind of GPU that runs them. Needs tensorrt and cuda-python."""

from __future__ import annotations

from autovoice.backends.tensorrt.engine_backend import EngineBackend
from autovoice.backends.tensorrt.versions import TENSORRT


class TensorRT(EngineBackend):
    """Options: see `autovoice.backends.tensorrt.options`."""

    tool = TENSORRT


BACKEND = TensorRT
