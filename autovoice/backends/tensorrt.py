"""TensorRT 10 and 11: engines built on the kind of GPU that runs them. Needs tensorrt and cuda-python."""

from __future__ import annotations

from autovoice.trt.backend import EngineBackend
from autovoice.trt.versions import TENSORRT


class TensorRT(EngineBackend):
    """Options: see `autovoice.trt.options`."""

    tool = TENSORRT


BACKEND = TensorRT
