"""The memory of an engine's inputs and outputs."""

from __future__ import annotations

from collections.abc import Sequence
from weakref import WeakSet

import numpy as np

from autovoice.backends.cuda.arena import ON_DEVICE, Arena, DeviceBuffer
from autovoice.backends.cuda.array import DeviceArray
from autovoice.backends.cuda.memory import ALIGNMENT, Block
from autovoice.backends.cuda.staging import Staging
from autovoice.backends.tensorrt.feeds import View
from autovoice.backends.tensorrt.fit import Fit, Range
from autovoice.backends.tensorrt.loaded import LoadedEngine, Shapes, Spec


class Tensors:
    """Buffers that grow: one for each output, and one for each input that cannot be used where it lies."""

    def __init__(self, engine: LoadedEngine, arena: Arena, ranges: Sequence[Range]) -> None:
        self._arena = arena
        self._ins, self._outs = engine.inputs, engine.outputs
        self._inputs = [DeviceBuffer(arena, f"input '{s.name}'") for s in self._ins]
        self._outputs = [DeviceBuffer(arena, f"output '{s.name}'") for s in self._outs]
        self._most = [max(nbytes_of(s, r.most[i]) for r in ranges) for i, s in enumerate(self._ins)]
        self._staging = Staging(arena, f"inputs {', '.join(s.name for s in self._ins)}")
        self._put: WeakSet[Block] = WeakSet()

    def place(self, views: Sequence[View]) -> tuple[int, ...]:
        """Where the inputs are on the device, those that had to be copied there being on their way."""
        addresses, host = [], []
        for spec, view, buffer, most in zip(self._ins, views, self._inputs, self._most, strict=True):
            if self._usable(view):
                self._arena.stream.follow(view.stream)
                addresses.append(view.ptr)
                continue
            nbytes = nbytes_of(spec, view.shape)
            addresses.append(buffer.ensure(nbytes, most).ptr)
            host.extend(self._copied(view, addresses[-1], nbytes))
        self._upload(host)
        return tuple(addresses)

    def put(self, given: Sequence[Spec], views: Sequence[View]) -> dict[str, DeviceArray]:
        """Copies, of those inputs, that the arrays returned own."""
        arrays, host = {}, []
        for spec, view in zip(given, views, strict=True):
            block = self._arena.allocate(nbytes_of(spec, view.shape), f"input '{spec.name}'")
            self._put.add(block)
            arrays[spec.name] = DeviceArray(block, view.shape, spec.dtype, self._arena)
            host.extend(self._copied(view, block.ptr, arrays[spec.name].nbytes))
        self._upload(host)
        return arrays

    def fit(self, fit: Fit) -> bool:
        """True when the outputs have room."""
        return all(b.fits(n) for b, n in zip(self._outputs, self._sizes(fit.outputs), strict=True))

    def grow(self, fit: Fit, most: Shapes) -> None:
        """Room for the outputs, which moves them; nothing recorded may be launched again."""
        for buffer, size, limit in zip(self._outputs, self._sizes(fit.outputs), self._sizes(most), strict=True):
            buffer.ensure(size, limit)

    def outputs(self, fit: Fit, wanted: Sequence[tuple[str, int]]) -> dict[str, DeviceArray]:
        """The outputs by name; they must have room."""
        made = {}
        for name, i in wanted:
            block = self._outputs[i].block
            assert block is not None
            made[name] = DeviceArray(block, fit.outputs[i], self._outs[i].dtype, self._arena)
        return made

    @property
    def output_addresses(self) -> tuple[int, ...]:
        return tuple(b.block.ptr for b in self._outputs if b.block is not None)

    def close(self) -> None:
        """Free all of it, what was put included; nothing may be under way."""
        self._staging.close()
        for buffer in (*self._inputs, *self._outputs):
            buffer.free()
        for block in list(self._put):
            block.free()

    def _usable(self, view: View) -> bool:
        """Used where it is: on a boundary that kernels may count on, and not what this engine itself writes."""
        if view.host is not None or not view.ptr or view.ptr % ALIGNMENT:
            return False
        return not any(b.holds(view.ptr) for b in self._outputs)

    def _copied(self, view: View, to: int, nbytes: int) -> list[tuple[np.ndarray, int]]:
        """Start a copy on the device; a host array is given back, to be uploaded with the others."""
        if view.host is not None:
            return [(view.host, to)]
        self._arena.stream.follow(view.stream)
        self._arena.copy(to, view.ptr, nbytes, ON_DEVICE)
        return []

    def _upload(self, host: list[tuple[np.ndarray, int]]) -> None:
        if host:
            self._staging.upload(host)

    def _sizes(self, shapes: Shapes) -> list[int]:
        return [nbytes_of(s, shape) for s, shape in zip(self._outs, shapes, strict=True)]


def nbytes_of(spec: Spec, shape: Sequence[int]) -> int:
    size = int(spec.dtype.itemsize)
    for axis in shape:
        size *= axis
    return size
