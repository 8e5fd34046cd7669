"""The same CUDA that is not there as for engines."""

from tests.backends.tensorrt.conftest import cuda

__all__ = ["cuda"]
