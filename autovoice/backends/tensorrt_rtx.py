"""TensorRT-RTX: engines for named compute capabilities, built on any machine, run on an NVIDIA RTX GPU."""

from __future__ import annotations

from autovoice.trt.backend import EngineBackend
from autovoice.trt.versions import RTX


class TensorRTRTX(EngineBackend):
    """Options: see `autovoice.trt.options`."""

    tool = RTX


BACKEND = TensorRTRTX
