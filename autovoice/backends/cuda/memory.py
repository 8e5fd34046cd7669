"""Memory: blocks on the device, buffers that grow, and pinned memory of the host. Everything is freed once."""

from __future__ import annotations

import ctypes
import math
import threading
from typing import Any

import numpy as np

from autovoice.backends.cuda.runtime import load, words
from autovoice.errors import BuildError

#: TensorRT's kernels may assume this much of any address they are given
ALIGNMENT = 256

#: guards the few counts below; a deleter may run inside a garbage collection, so the same thread may enter twice
_counting = threading.RLock()


class Block:
    """A piece of device memory. It is freed by `free`, or when nobody refers to it.

    Whoever exports it to other libraries calls `hold`, and `release` when they are done: it then lives that long.
    """

    __slots__ = ("__weakref__", "_doomed", "_holds", "_runtime", "alive", "nbytes", "ptr")

    def __init__(self, nbytes: int, what: str) -> None:
        self.alive, self._doomed, self._holds = False, False, 0
        self._runtime = load()
        self.nbytes = max(nbytes, 1)
        status, ptr = self._runtime.cudaMalloc(self.nbytes)
        if status or not ptr:
            raise _exhausted(self._runtime, status, f"{what} of {nbytes:,} bytes on the GPU")
        self.ptr = int(ptr)
        self.alive = True

    def hold(self) -> None:
        with _counting:
            self._holds += 1

    def release(self) -> None:
        with _counting:
            self._holds -= 1
            if self._doomed and not self._holds:
                self._free()

    def free(self) -> None:
        """Give it back, or leave that to the last `release`. Waits for the work on the device, as cudaFree does."""
        with _counting:
            self._doomed = True
            if not self._holds:
                self._free()

    def _free(self) -> None:
        if self.alive:
            self.alive = False
            self._runtime.cudaFree(self.ptr)  # its status tells of earlier faults only, which were raised then

    def __del__(self) -> None:
        if self.alive:
            self._free()


class PinnedBuffer:
    """Page-locked memory of the host that grows; what it held is lost then."""

    def __init__(self, what: str) -> None:
        self.ptr = 0
        self.nbytes = 0
        self._what = what
        self._runtime = load()

    def ensure(self, nbytes: int) -> None:
        """At least so many bytes. No copy from or to it may be under way."""
        if nbytes <= self.nbytes:
            return
        self.free()
        size = nbytes + nbytes // 2
        status, ptr = self._runtime.cudaMallocHost(size)
        if status or not ptr:
            raise _exhausted(self._runtime, status, f"{self._what} of {size:,} bytes in pinned host memory")
        self.ptr, self.nbytes = int(ptr), size

    def view(self, offset: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray:
        """An array in this memory, good until it grows or is freed."""
        count = math.prod(shape)
        raw = (ctypes.c_char * (count * dtype.itemsize)).from_address(self.ptr + offset)
        return np.frombuffer(memoryview(raw).cast("B"), dtype=dtype, count=count).reshape(shape)

    def free(self) -> None:
        if self.nbytes:
            ptr, self.ptr, self.nbytes = self.ptr, 0, 0
            self._runtime.cudaFreeHost(ptr)

    def __del__(self) -> None:
        self.free()


def aligned(nbytes: int) -> int:
    """`nbytes`, up to the next address that any data may begin at."""
    return -(-nbytes // ALIGNMENT) * ALIGNMENT


def _exhausted(runtime: Any, status: Any, what: str) -> BuildError:
    runtime.cudaGetLastError()
    code, free, total = runtime.cudaMemGetInfo()
    have = f"{free:,} bytes of {total:,} are free" if not code else "how much is free cannot be told"
    reason = words(runtime, status) if status else "a null pointer"
    return BuildError(
        f"no memory for {what}: {reason}; on the GPU, {have}", "free what else uses it, or lower dims.*.max"
    )
