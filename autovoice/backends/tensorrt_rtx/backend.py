"""TensorRT-RTX: engines for named compute capabilities, built on any machine, run on an NVIDIA RTX GPU."""

from __future__ import annotations

from autovoice.backends.tensorrt.engine_backend import EngineBackend
from autovoice.backends.tensorrt.versions import RTX


class TensorRTRTX(EngineBackend):
    """Options: see `autovoice.backends.tensorrt.options`."""

    tool = RTX


BACKEND = TensorRTRTX
