"""From arrays of the host to device memory, through pinned memory and without waiting for the GPU's work."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from autovoice.backends.cuda.arena import TO_DEVICE, Arena
from autovoice.backends.cuda.memory import PinnedBuffer, aligned
from autovoice.backends.cuda.stream import Event


class Staging:
    """Pinned memory that is written again only once the copies out of it are done."""

    def __init__(self, arena: Arena, what: str) -> None:
        self._arena = arena
        self._pinned = PinnedBuffer(what)
        self._copied: Event | None = None

    def upload(self, arrays: Sequence[tuple[np.ndarray, int]]) -> None:
        """Put copies of arrays to addresses on the stream; the arrays may change as soon as this returns."""
        if self._copied is None:
            self._copied = Event()
        else:
            self._copied.wait()
        self._pinned.ensure(sum(aligned(a.nbytes) for a, _ in arrays))
        offset = 0
        for array, ptr in arrays:
            if array.nbytes:
                self._pinned.view(offset, array.shape, array.dtype)[...] = array
                self._arena.copy(ptr, self._pinned.ptr + offset, array.nbytes, TO_DEVICE)
                offset += aligned(array.nbytes)
        self._copied.record(self._arena.stream.raw)

    def close(self) -> None:
        """Free it; nothing may be under way."""
        self._pinned.free()
        if self._copied is not None:
            self._copied.destroy()
            self._copied = None
