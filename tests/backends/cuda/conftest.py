"""The same CUDA that is not there as for engines."""

from tests.trt.conftest import cuda

__all__ = ["cuda"]
