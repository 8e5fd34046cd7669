"""Memory that the sessions of one pipeline share: a stream, a block for activations, and the way back to the host."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any
from weakref import WeakSet

import numpy as np

from autovoice.backends.cuda.array import DeviceArray
from autovoice.backends.cuda.memory import Block, PinnedBuffer
from autovoice.backends.cuda.runtime import checked, load
from autovoice.backends.cuda.stream import Stream
from autovoice.errors import BuildError

TO_DEVICE, TO_HOST, ON_DEVICE = ("cudaMemcpyHostToDevice", "cudaMemcpyDeviceToHost", "cudaMemcpyDeviceToDevice")


class Arena:
    """One stream on which engines run one after another, so that one block serves the activations of them all.

    `lock` is held by whoever puts work on the stream. `generation` changes whenever that block has moved.
    """

    def __init__(self, lock: threading.RLock) -> None:
        self._runtime = load()
        self.lock: Any = lock
        self.device = int(checked(self._runtime.cudaGetDevice(), "asking for the current device"))
        self._several = int(checked(self._runtime.cudaGetDeviceCount(), "counting devices")) > 1
        self.activations: Block | None = None
        self.generation = 0
        self.closed = False
        self._blocks: WeakSet[Block] = WeakSet()
        self._to_host = PinnedBuffer("results")
        self._capturing: Stream | None = None
        self.stream = Stream()

    @property
    def capturing(self) -> Stream:
        """The stream graphs are recorded on."""
        if self._capturing is None:
            self._capturing = Stream(blocking=False)
        return self._capturing

    @property
    def device_bytes(self) -> int:
        """Device memory taken through this arena now: activations, inputs and outputs."""
        return sum(b.nbytes for b in list(self._blocks) if b.alive)

    def active(self) -> AbstractContextManager[None]:
        """This arena's device as the thread's current one; another thread may have chosen another."""
        return self._active() if self._several else nullcontext()

    @contextmanager
    def _active(self) -> Iterator[None]:
        before = checked(self._runtime.cudaGetDevice(), "asking for the current device")
        checked(self._runtime.cudaSetDevice(self.device), "choosing a device")
        try:
            yield
        finally:
            self._runtime.cudaSetDevice(before)

    def allocate(self, nbytes: int, what: str) -> Block:
        """Device memory, freed at the latest when this arena is closed."""
        if self.closed:
            raise BuildError("this session is closed", "load it again")
        block = Block(nbytes, what)
        self._blocks.add(block)
        return block

    def reserve(self, nbytes: int, what: str) -> None:
        """Activation memory for an engine that needs so much. Graphs recorded before a move are void."""
        if nbytes <= (self.activations.nbytes if self.activations else 0):
            return
        if self.activations is not None:
            self.stream.wait()
            self.activations.free()
            self.activations = None
        self.generation += 1
        self.activations = self.allocate(nbytes, what)

    def copy(self, to: int, source: int, nbytes: int, kind: str) -> None:
        """Put a copy on the stream; neither side may change before it is done."""
        if nbytes:
            way = getattr(self._runtime.cudaMemcpyKind, kind)
            checked(self._runtime.cudaMemcpyAsync(to, source, nbytes, way, self.stream.raw), "copying")

    def to_host(self, array: DeviceArray) -> np.ndarray:
        """An array's values, once all work before is done."""
        with self.lock, self.active():
            array.checked()
            if not array.nbytes:
                return np.empty(array.shape, array.dtype)
            self._to_host.ensure(array.nbytes)
            self.copy(self._to_host.ptr, array.ptr, array.nbytes, TO_HOST)
            self.stream.wait()
            return self._to_host.view(0, array.shape, array.dtype).copy()

    def close(self) -> None:
        """Free everything that came from here; twice is harmless."""
        with self.lock, self.active():
            if self.closed:
                return
            self.closed = True
            self.generation += 1
            self._runtime.cudaStreamSynchronize(self.stream.raw)  # a fault was raised where it happened
            for block in list(self._blocks):
                block.free()
            self.activations = None
            self._to_host.free()
            if self._capturing is not None:
                self._capturing.destroy()
            self.stream.destroy()


class DeviceBuffer:
    """Device memory of an arena that grows when needed; what it held is lost then, and its address changes."""

    def __init__(self, arena: Arena, what: str) -> None:
        self.block: Block | None = None
        self._arena = arena
        self._what = what

    def fits(self, nbytes: int) -> bool:
        return self.block is not None and self.block.alive and self.block.nbytes >= nbytes

    def ensure(self, nbytes: int, most: int) -> Block:
        """A block of so many bytes: half as much again when it grows, so that it grows seldom, but at most `most`."""
        if not self.fits(nbytes):
            self.free()
            self.block = self._arena.allocate(max(nbytes, min(nbytes + nbytes // 2, most)), self._what)
        assert self.block is not None
        return self.block

    def holds(self, ptr: int) -> bool:
        """True for an address in it."""
        return self.block is not None and self.block.ptr <= ptr < self.block.ptr + self.block.nbytes

    def free(self) -> None:
        if self.block is not None:
            block, self.block = self.block, None
            block.free()
