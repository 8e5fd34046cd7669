"""A calibrator as TensorRT calls it, and the device memory its samples lie in."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from autovoice.backends.cuda.memory import Block, PinnedBuffer
from autovoice.backends.cuda.runtime import checked, load
from autovoice.backends.cuda.stream import Stream
from autovoice.errors import CalibrationError, choices

Arrays = dict[str, np.ndarray]
#: the address of each input
Batch = Mapping[str, int]


def calibrator(base: Any, batches: Iterator[Batch], batch: int, given: bytes | None = None) -> Any:
    """A calibrator of TensorRT's class `base`, fed with addresses by input, or with a calibration cache.

    Its methods are called from C++, where exceptions are lost: the first one is kept in `failure`, and ends the data.
    What TensorRT writes is in `written`, None before.
    """

    class Calibrator(base):
        def __init__(self) -> None:
            base.__init__(self)
            self.failure: BaseException | None = None
            self.written: bytes | None = None

        def get_batch_size(self) -> int:
            return batch

        def get_batch(self, names: list[str]) -> list[int] | None:
            if self.failure is not None:
                return None
            try:
                pointers = next(batches, None)
                return None if pointers is None else [_pointer(pointers, name) for name in names]
            except BaseException as e:
                self.failure = e
                return None

        def read_calibration_cache(self) -> bytes | None:
            return given

        def write_calibration_cache(self, cache: Any) -> None:
            self.written = bytes(cache)

    return Calibrator()


@contextmanager
def buffers(kinds: Mapping[str, tuple[tuple[int, ...], np.dtype[Any]]]) -> Iterator[dict[str, Block]]:
    """Device memory for each input, given back whatever happens."""
    made: dict[str, Block] = {}
    try:
        for name, (shape, dtype) in kinds.items():
            made[name] = Block(int(np.prod(shape, dtype=np.int64)) * dtype.itemsize, f"calibration input '{name}'")
        yield made
    finally:
        for block in made.values():
            block.free()


def batches_of(samples: Iterator[tuple[str, Arrays]], blocks: Mapping[str, Block]) -> Generator[Batch]:
    """Every sample in turn, in the device's memory: addresses by input."""
    runtime, stream, pinned = load(), Stream(), PinnedBuffer("a calibration sample")
    try:
        way = runtime.cudaMemcpyKind.cudaMemcpyHostToDevice
        for sample, arrays in samples:
            for name, block in blocks.items():
                array = arrays[name]
                pinned.ensure(array.nbytes)
                pinned.view(0, array.shape, array.dtype)[...] = array
                copied = runtime.cudaMemcpyAsync(block.ptr, pinned.ptr, array.nbytes, way, stream.raw)
                checked(copied, f"copying input '{name}' of calibration sample {sample}")
                stream.wait()  # the next input overwrites it, and TensorRT reads on a stream of its own
            yield {name: block.ptr for name, block in blocks.items()}
    finally:
        pinned.free()
        stream.destroy()


def _pointer(pointers: Mapping[str, int], name: str) -> int:
    pointer = pointers.get(name)
    if not pointer:
        fact = f"calibration: TensorRT asks for input '{name}', for which there is no device memory"
        raise CalibrationError(fact, f"there is of {choices(pointers)}")
    return pointer
