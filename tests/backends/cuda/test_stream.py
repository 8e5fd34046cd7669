"""Streams in order with each other, and recorded graphs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from autovoice.backends.cuda.stream import Stream, capture
from autovoice.errors import BuildError
from tests.fakes.cuda import FakeCuda, installed


@pytest.fixture
def cuda() -> Iterator[FakeCuda]:
    with installed(FakeCuda()) as fake:
        yield fake


@pytest.mark.parametrize(
    ("blocking", "handle", "ordered"),
    [(True, None, True), (True, 0, True), (True, 1, True), (True, 2, False), (True, 999, False), (False, 1, False)],
)
def test_what_is_in_order_anyway(cuda: FakeCuda, blocking: bool, handle: int | None, ordered: bool) -> None:
    assert Stream(blocking).ordered_with(handle) is ordered


def test_following_another_stream(cuda: FakeCuda) -> None:
    done: list[str] = []
    ours, theirs = Stream(), cuda.foreign_stream(lambda: done.append("theirs"))
    ours.follow(theirs)
    cuda.put(ours.handle, lambda: done.append("ours"))
    ours.wait()
    assert done == ["theirs", "ours"]


def test_leading_another_stream(cuda: FakeCuda) -> None:
    done: list[str] = []
    ours, theirs = Stream(), cuda.foreign_stream(lambda: None)
    cuda.put(ours.handle, lambda: done.append("ours"))
    ours.lead(theirs)
    cuda.put(theirs, lambda: done.append("theirs"))
    cuda.cudaStreamSynchronize(theirs)
    assert done == ["ours", "theirs"]


def test_no_event_where_order_is_given(cuda: FakeCuda) -> None:
    stream = Stream()
    stream.follow(1)
    stream.lead(stream.handle)
    assert cuda.calls["cudaEventCreateWithFlags"] == 0


def test_streams_and_events_are_destroyed_once(cuda: FakeCuda) -> None:
    stream = Stream()
    theirs = cuda.foreign_stream(lambda: None)
    stream.follow(theirs)
    stream.destroy()
    stream.destroy()
    del stream
    assert cuda.faults == []
    assert cuda.leaks == {}
    assert theirs in cuda.streams


def test_recorded_and_not_run(cuda: FakeCuda) -> None:
    done: list[int] = []
    side, main = Stream(blocking=False), Stream()
    graph = capture(side, lambda: bool(cuda.put(side.handle, lambda: done.append(1))) and None)
    assert done == []
    cuda.cudaGraphLaunch(graph.raw, main.raw)
    cuda.cudaGraphLaunch(graph.raw, main.raw)
    main.wait()
    assert done == [1, 1]
    graph.destroy()
    graph.destroy()
    assert (cuda.faults, cuda.graphs, cuda.executables) == ([], {}, {})


def test_a_capture_that_fails_is_ended(cuda: FakeCuda) -> None:
    def work() -> None:
        raise BuildError("TensorRT cannot run", "")

    side = Stream(blocking=False)
    with pytest.raises(BuildError, match="cannot run"):
        capture(side, work)
    assert cuda.streams[side.handle].captured is None
    assert cuda.graphs == {}


@pytest.mark.parametrize("call", ["cudaStreamBeginCapture", "cudaStreamEndCapture", "cudaGraphInstantiate"])
def test_a_graph_that_cannot_be_had(cuda: FakeCuda, call: str) -> None:
    cuda.fail(call, 901)
    with pytest.raises(BuildError, match="graph"):
        capture(Stream(blocking=False), lambda: None)
    assert (cuda.graphs, cuda.executables) == ({}, {})


def test_allocating_while_recording_breaks_it(cuda: FakeCuda) -> None:
    with pytest.raises(BuildError, match="StreamCaptureInvalidated"):
        capture(Stream(blocking=False), lambda: bool(cuda.cudaMalloc(1)) and None)
