"""A CUDA runtime without a GPU: `cuda.bindings.runtime` as far as autovoice calls it, over memory of this process.

`with installed(FakeCuda()) as cuda:` puts it where `autovoice.backends.cuda.runtime.load` finds it.

It is as late as a real one may be: what is put on a stream is done when somebody waits, not before, so that whoever
overwrites a buffer too early gets wrong numbers. It is stricter than a real one: touching freed memory, freeing twice,
capturing a blocking stream and the like stand in `faults`, which a test asserts to be empty.

    cuda.device_bytes, cuda.pinned_bytes    live memory; cuda.leaks says what else was not destroyed
    cuda.capacity = 4096                    cudaMalloc then fails beyond so many live bytes
    cuda.fail("cudaGraphInstantiate", 2)    the next call of that name returns this status (a null pointer: fail_null)
    cuda.calls["cudaGraphLaunch"]           how often
    cuda.foreign_stream(work)               a stream of somebody else, with work on it
    cuda.allocate(array)                    device memory of somebody else, its address
    cuda.read(ptr, shape, dtype)            what is there now, all work done
"""

from __future__ import annotations

import ctypes
import sys
import threading
import types
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import IntEnum
from functools import wraps
from typing import Any

import numpy as np

ALIGNMENT = 256


class cudaError_t(IntEnum):
    cudaSuccess = 0
    cudaErrorInvalidValue = 1
    cudaErrorMemoryAllocation = 2
    cudaErrorInsufficientDriver = 35
    cudaErrorNoDevice = 100
    cudaErrorInvalidResourceHandle = 400
    cudaErrorIllegalAddress = 700
    cudaErrorStreamCaptureUnsupported = 900
    cudaErrorStreamCaptureInvalidated = 901


class cudaMemcpyKind(IntEnum):
    cudaMemcpyHostToHost = 0
    cudaMemcpyHostToDevice = 1
    cudaMemcpyDeviceToHost = 2
    cudaMemcpyDeviceToDevice = 3


class cudaStreamCaptureMode(IntEnum):
    cudaStreamCaptureModeGlobal = 0
    cudaStreamCaptureModeThreadLocal = 1
    cudaStreamCaptureModeRelaxed = 2


OK = cudaError_t.cudaSuccess
Work = Callable[[], None]


class Fault(Exception):
    """What makes a GPU stop."""


@dataclass
class Stream:
    """Work in order; `done` of all that was ever put is done."""

    flags: int
    work: deque[Work] = field(default_factory=deque)
    done: int = 0
    captured: list[Work] | None = None
    broken: bool = False

    @property
    def put(self) -> int:
        return self.done + len(self.work)

    def run(self, until: int | None = None) -> None:
        while self.work and (until is None or self.done < until):
            self.done += 1
            self.work.popleft()()


@dataclass
class Memory:
    raw: Any
    ptr: int
    nbytes: int
    device: bool


def _counted(call: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(call)
    def counting(self: FakeCuda, *arguments: Any) -> Any:
        with self.guard:
            self.calls[call.__name__] += 1
            waiting = self.failures.get(call.__name__)
            if waiting:
                status = waiting.pop(0)
                return (cudaError_t(status), None) if status else (OK, 0)
            if self.sticky and call.__name__ not in _ANSWERS_ANYWAY:
                return self.sticky, None
            return call(self, *arguments)

    return counting


_ANSWERS_ANYWAY = ("cudaGetErrorName", "cudaGetErrorString", "cudaGetLastError")


class FakeCuda:
    """One machine. Attributes and returned tuples are those of `cuda.bindings.runtime`."""

    cudaError_t, cudaMemcpyKind, cudaStreamCaptureMode = cudaError_t, cudaMemcpyKind, cudaStreamCaptureMode

    def __init__(self, capacity: int = 1 << 30, devices: int = 1) -> None:
        self.capacity, self.devices = capacity, devices
        self.guard = threading.RLock()
        self.calls: Counter[str] = Counter()
        self.failures: dict[str, list[int]] = {}
        self.foreign: set[int] = set()  # addresses and streams of somebody else
        self.faults: list[str] = []
        self.sticky: cudaError_t | None = None
        self.memory: dict[int, Memory] = {}
        self.freed: set[int] = set()
        self.peak = 0
        self.streams: dict[int, Stream] = {1: Stream(0), 2: Stream(0)}
        self.events: dict[int, tuple[int, int] | None] = {}
        self.graphs: dict[int, list[Work]] = {}
        self.executables: dict[int, list[Work]] = {}
        self._handles = iter(range(0x1000, 1 << 40, 0x10))
        self._thread = threading.local()

    # --- for tests -------------------------------------------------------------------------------------------------

    @property
    def device_bytes(self) -> int:
        return sum(m.nbytes for m in self.memory.values() if m.device)

    @property
    def pinned_bytes(self) -> int:
        return sum(m.nbytes for m in self.memory.values() if not m.device)

    @property
    def leaks(self) -> dict[str, int]:
        """What is left, but for what is somebody else's: all of it must be gone once everything was closed."""
        left = {
            "device bytes": sum(m.nbytes for p, m in self.memory.items() if m.device and p not in self.foreign),
            "pinned bytes": self.pinned_bytes,
            "streams": len(self.streams.keys() - self.foreign) - 2,
            "events": len(self.events),
            "graphs": len(self.graphs),
            "executables": len(self.executables),
        }
        return {what: count for what, count in left.items() if count}

    def fail(self, call: str, status: int = 2, times: int = 1) -> None:
        self.failures.setdefault(call, []).extend([status] * times)

    def fail_null(self, call: str) -> None:
        """Success, and a null pointer."""
        self.fail(call, 0)

    def foreign_stream(self, work: Work) -> int:
        handle = next(self._handles)
        self.streams[handle] = Stream(1, deque([work]))
        self.foreign.add(handle)
        return handle

    def allocate(self, array: np.ndarray, offset: int = 0) -> int:
        """The address of a copy, `offset` bytes into an allocation of its own."""
        _, ptr = self.cudaMalloc(array.nbytes + offset)
        self.foreign.add(ptr)
        ctypes.memmove(ptr + offset, np.ascontiguousarray(array).ctypes.data, array.nbytes)
        return ptr + offset

    def read(self, ptr: int, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        self._run_all()
        return self.view(ptr, shape, dtype).copy()

    def view(self, ptr: int, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        """Live memory as an array. Raises Fault for what is not there."""
        dtype = np.dtype(dtype)
        count = int(np.prod(shape, dtype=np.int64))
        self.check(ptr, count * dtype.itemsize)
        if not count:
            return np.empty(shape, dtype)
        raw = (ctypes.c_char * (count * dtype.itemsize)).from_address(ptr)
        return np.frombuffer(memoryview(raw).cast("B"), dtype).reshape(shape)

    def check(self, ptr: int, nbytes: int) -> Memory | None:
        for m in self.memory.values():
            if m.ptr <= ptr and ptr + nbytes <= m.ptr + m.nbytes:
                return m
        if nbytes:
            raise Fault(f"{nbytes} bytes at {ptr:#x} are not live memory")
        return None

    def put(self, handle: int, work: Work) -> bool:
        """Put work on a stream, or into the graph that is captured from it; False where neither can be."""
        stream = self.streams.get(int(handle))
        if stream is None:
            self.faults.append(f"work for stream {int(handle):#x}, which there is not")
            return False
        (stream.work if stream.captured is None else stream.captured).append(work)
        return True

    # --- memory ----------------------------------------------------------------------------------------------------

    @_counted
    def cudaMalloc(self, size: int) -> Any:
        return self._allocated(size, True)

    @_counted
    def cudaMallocHost(self, size: int) -> Any:
        return self._allocated(size, False)

    @_counted
    def cudaFree(self, ptr: int) -> Any:
        self._break_captures()
        self._run_all()  # cudaFree waits for the device
        return self._freed(int(ptr), True)

    @_counted
    def cudaFreeHost(self, ptr: int) -> Any:
        return self._freed(int(ptr), False)

    @_counted
    def cudaMemGetInfo(self) -> Any:
        return OK, self.capacity - self.device_bytes, self.capacity

    @_counted
    def cudaMemcpyAsync(self, to: int, source: int, nbytes: int, kind: int, stream: int) -> Any:
        if not to or not source:
            self.faults.append("a copy from or to a null pointer")
            return (cudaError_t.cudaErrorInvalidValue,)
        sides = {
            1: (True, False),
            2: (False, True),
            3: (True, True),
        }[int(kind)]

        def copy() -> None:
            for ptr, device in zip((to, source), sides, strict=True):
                found = self.check(int(ptr), nbytes)
                if found is not None and found.device != device:
                    raise Fault(f"{int(ptr):#x} is on the wrong side for a {cudaMemcpyKind(int(kind)).name}")
            ctypes.memmove(int(to), int(source), nbytes)

        return (OK,) if self.put(stream, copy) else (cudaError_t.cudaErrorInvalidResourceHandle,)

    def _allocated(self, size: int, device: bool) -> Any:
        self._break_captures()
        if size <= 0:
            self.faults.append(f"an allocation of {size} bytes")
        if device and self.device_bytes + size > self.capacity:
            return cudaError_t.cudaErrorMemoryAllocation, None
        raw = ctypes.create_string_buffer(b"\xee" * (size + ALIGNMENT), size + ALIGNMENT)
        ptr = -(-ctypes.addressof(raw) // ALIGNMENT) * ALIGNMENT
        self.memory[ptr] = Memory(raw, ptr, size, device)
        self.freed.discard(ptr)
        self.peak = max(self.peak, self.device_bytes)
        return OK, ptr

    def _freed(self, ptr: int, device: bool) -> Any:
        found = self.memory.get(ptr)
        if found is None or found.device != device:
            self.faults.append(f"{ptr:#x} was freed {'twice' if ptr in self.freed else 'but never allocated'}")
            return (cudaError_t.cudaErrorInvalidValue,)
        del self.memory[ptr]
        self.freed.add(ptr)
        return (OK,)

    # --- streams and events ----------------------------------------------------------------------------------------

    @_counted
    def cudaStreamCreateWithFlags(self, flags: int) -> Any:
        handle = next(self._handles)
        self.streams[handle] = Stream(flags)
        return OK, handle

    @_counted
    def cudaStreamDestroy(self, stream: int) -> Any:
        found = self.streams.pop(int(stream), None)
        if found is None:
            self.faults.append("a stream was destroyed twice")
            return (cudaError_t.cudaErrorInvalidResourceHandle,)
        return self._guarded(found.run)

    @_counted
    def cudaStreamSynchronize(self, stream: int) -> Any:
        self._break_captures()
        found = self.streams.get(int(stream))
        return self._guarded(found.run) if found else (cudaError_t.cudaErrorInvalidResourceHandle,)

    @_counted
    def cudaStreamWaitEvent(self, stream: int, event: int, flags: int) -> Any:
        mark = self.events[int(event)]
        if mark is not None:
            self.put(stream, lambda: self._run_to(mark))
        return (OK,)

    @_counted
    def cudaEventCreateWithFlags(self, flags: int) -> Any:
        handle = next(self._handles)
        self.events[handle] = None
        return OK, handle

    @_counted
    def cudaEventRecord(self, event: int, stream: int) -> Any:
        if int(stream) not in self.streams or int(event) not in self.events:
            return (cudaError_t.cudaErrorInvalidResourceHandle,)
        self.events[int(event)] = (int(stream), self.streams[int(stream)].put)
        return (OK,)

    @_counted
    def cudaEventSynchronize(self, event: int) -> Any:
        mark = self.events[int(event)]
        return self._guarded(lambda: self._run_to(mark)) if mark else (OK,)

    @_counted
    def cudaEventDestroy(self, event: int) -> Any:
        if int(event) not in self.events:
            self.faults.append("an event was destroyed twice")
        self.events.pop(int(event), None)
        return (OK,)

    def _run_to(self, mark: tuple[int, int]) -> None:
        stream = self.streams.get(mark[0])
        if stream is not None:  # work of a stream that was destroyed is done
            stream.run(mark[1])

    def _run_all(self) -> None:
        for stream in list(self.streams.values()):
            self._guarded(stream.run)

    def _guarded(self, work: Work) -> tuple[cudaError_t]:
        try:
            work()
        except Fault as e:
            self.faults.append(str(e))
            self.sticky = cudaError_t.cudaErrorIllegalAddress
        return (self.sticky or OK,)

    # --- graphs ----------------------------------------------------------------------------------------------------

    @_counted
    def cudaStreamBeginCapture(self, stream: int, mode: int) -> Any:
        found = self.streams[int(stream)]
        if not found.flags & 1:
            self.faults.append("a blocking stream is captured, which breaks the legacy stream for everybody")
        if mode != cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal:
            self.faults.append("a capture that other threads' allocations break")
        found.captured, found.broken = [], False
        self._capturing.add(int(stream))
        return (OK,)

    @_counted
    def cudaStreamEndCapture(self, stream: int) -> Any:
        found = self.streams[int(stream)]
        self._capturing.discard(int(stream))
        work, found.captured = found.captured, None
        if work is None or found.broken:
            return cudaError_t.cudaErrorStreamCaptureInvalidated, None
        handle = next(self._handles)
        self.graphs[handle] = work
        return OK, handle

    @_counted
    def cudaGraphInstantiate(self, graph: int, flags: int) -> Any:
        handle = next(self._handles)
        self.executables[handle] = list(self.graphs[int(graph)])
        return OK, handle

    @_counted
    def cudaGraphDestroy(self, graph: int) -> Any:
        if self.graphs.pop(int(graph), None) is None:
            self.faults.append("a graph was destroyed twice")
        return (OK,)

    @_counted
    def cudaGraphLaunch(self, executable: int, stream: int) -> Any:
        if int(executable) not in self.executables:
            self.faults.append("a graph was launched that was destroyed")
            return (cudaError_t.cudaErrorInvalidValue,)
        for work in self.executables[int(executable)]:
            self.put(stream, work)
        return (OK,)

    @_counted
    def cudaGraphExecDestroy(self, executable: int) -> Any:
        if self.executables.pop(int(executable), None) is None:
            self.faults.append("an executable graph was destroyed twice")
        return (OK,)

    @property
    def _capturing(self) -> set[int]:
        if not hasattr(self._thread, "capturing"):
            self._thread.capturing = set()
        return self._thread.capturing

    def _break_captures(self) -> None:
        """Allocating and waiting are not allowed in a thread that captures."""
        for handle in self._capturing:
            self.streams[handle].broken = True

    # --- devices and errors ----------------------------------------------------------------------------------------

    @_counted
    def cudaGetDeviceCount(self) -> Any:
        return (OK, self.devices) if self.devices else (cudaError_t.cudaErrorNoDevice, None)

    @_counted
    def cudaGetDevice(self) -> Any:
        return OK, getattr(self._thread, "device", 0)

    @_counted
    def cudaSetDevice(self, device: int) -> Any:
        self._thread.device = int(device)
        return (OK,)

    @_counted
    def cudaGetErrorName(self, status: int) -> Any:
        return OK, cudaError_t(status).name.encode()

    @_counted
    def cudaGetErrorString(self, status: int) -> Any:
        words = {2: b"out of memory", 35: b"CUDA driver version is insufficient for CUDA runtime version"}
        return OK, words.get(int(status), b"what CUDA says of it")

    @_counted
    def cudaGetLastError(self) -> Any:
        return (OK,)


@contextmanager
def installed(cuda: Any) -> Iterator[Any]:
    """`cuda.bindings.runtime`, whether cuda-python is here or not, until the end of the block."""
    from autovoice.backends.cuda import runtime

    names = ("cuda", "cuda.bindings", "cuda.bindings.runtime")
    before = {n: sys.modules.get(n) for n in names}
    top, bindings = types.ModuleType("cuda"), types.ModuleType("cuda.bindings")
    top.__path__, bindings.__path__ = [], []  # type: ignore[attr-defined]
    sys.modules.update(dict(zip(names, (top, bindings, cuda), strict=True)))
    runtime.load.cache_clear()
    try:
        yield cuda
    finally:
        runtime.load.cache_clear()
        for name, module in before.items():
            if module is None:
                sys.modules.pop(name, None)
            else:
                sys.modules[name] = module
