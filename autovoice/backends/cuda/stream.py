"""Streams and graphs, destroyed once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from autovoice.backends.cuda.runtime import checked, load

_NON_BLOCKING = 1
_NO_TIMING = 2
_LEGACY, _PER_THREAD = 1, 2


class Stream:
    """An ordered queue of work. A `blocking` one is ordered with the legacy default stream, both ways."""

    def __init__(self, blocking: bool = True) -> None:
        self._runtime = load()
        self.raw: Any = checked(
            self._runtime.cudaStreamCreateWithFlags(0 if blocking else _NON_BLOCKING), "making a stream"
        )
        self.handle = int(self.raw)
        self.blocking = blocking
        self._event: Event | None = None

    def wait(self) -> None:
        """Until all its work is done. Raises BuildError for whatever failed on the device meanwhile."""
        status = self._runtime.cudaStreamSynchronize(self.raw)
        if status[0]:
            checked(status, "waiting for the GPU")

    def ordered_with(self, handle: int | None) -> bool:
        """True where work on the other stream (as `__cuda_array_interface__` names it) comes in order anyway."""
        return not handle or handle == self.handle or (self.blocking and handle == _LEGACY)

    def follow(self, handle: int | None) -> None:
        """What is put here from now on waits for what the other stream has now."""
        if not self.ordered_with(handle):
            self._order(handle, self.raw)

    def lead(self, handle: int | None) -> None:
        """What is put on the other stream from now on waits for what this one has now."""
        if not self.ordered_with(handle):
            self._order(self.raw, handle)

    def _order(self, first: Any, then: Any) -> None:
        if self._event is None:
            self._event = Event()
        self._event.record(first)
        checked(self._runtime.cudaStreamWaitEvent(then, self._event.raw, 0), "ordering two streams")

    def destroy(self) -> None:
        if self._event is not None:
            self._event.destroy()
        if self.raw is not None:
            raw, self.raw = self.raw, None
            self._runtime.cudaStreamDestroy(raw)

    def __del__(self) -> None:
        if getattr(self, "raw", None) is not None:
            self.destroy()


class Event:
    """A place in a stream, to be waited for."""

    def __init__(self) -> None:
        self._runtime = load()
        self.raw: Any = checked(self._runtime.cudaEventCreateWithFlags(_NO_TIMING), "making an event")

    def record(self, stream: Any) -> None:
        checked(self._runtime.cudaEventRecord(self.raw, stream), "recording an event")

    def wait(self) -> None:
        checked(self._runtime.cudaEventSynchronize(self.raw), "waiting for a copy")

    def destroy(self) -> None:
        if self.raw is not None:
            raw, self.raw = self.raw, None
            self._runtime.cudaEventDestroy(raw)

    def __del__(self) -> None:
        if getattr(self, "raw", None) is not None:
            self.destroy()


class Graph:
    """Recorded work, to be launched as one."""

    def __init__(self, raw: Any) -> None:
        self._runtime = load()
        self.raw = raw

    def destroy(self) -> None:
        if self.raw is not None:
            raw, self.raw = self.raw, None
            self._runtime.cudaGraphExecDestroy(raw)

    def __del__(self) -> None:
        self.destroy()


def capture(stream: Stream, work: Callable[[], None]) -> Graph:
    """What `work` puts on the stream, recorded and not run.

    The stream must not be blocking: while one is captured, any use of the legacy stream is an error, in this thread
    and in all others. Raises what `work` raises, and BuildError.
    """
    runtime = load()
    mode = runtime.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal  # others may allocate meanwhile
    checked(runtime.cudaStreamBeginCapture(stream.raw, mode), "beginning to record a graph")
    try:
        work()
    except BaseException:
        status = runtime.cudaStreamEndCapture(stream.raw)  # or the stream stays in a capture that failed
        if not status[0]:
            runtime.cudaGraphDestroy(status[1])
        runtime.cudaGetLastError()
        raise
    graph = checked(runtime.cudaStreamEndCapture(stream.raw), "recording a graph")
    try:
        return Graph(checked(runtime.cudaGraphInstantiate(graph, 0), "instantiating a graph"))
    finally:
        runtime.cudaGraphDestroy(graph)
