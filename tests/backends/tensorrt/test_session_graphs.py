"""When a run is a graph: the third call with the same shapes and addresses, until something has moved."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from autovoice.backends.base import Shared
from autovoice.backends.tensorrt.captured_graphs import FAILURES
from tests.fakes.cuda import FakeCuda
from tests.fakes.tensorrt import FakeTensorRT, open_session, plan


@pytest.fixture
def trt(cuda: FakeCuda) -> FakeTensorRT:
    return FakeTensorRT(cuda)


PROFILE = {"x": {"min": [1, 1], "opt": [1, 4], "max": [1, 64]}}
PLAN = plan({"x": ("float32", [1, -1])}, profiles=[PROFILE])


def _x(length: int, value: float = 1.0) -> np.ndarray:
    return np.full((1, length), value, np.float32)


def _launches(cuda: FakeCuda) -> int:
    return cuda.calls["cudaGraphLaunch"]


@pytest.mark.parametrize("generation", ["10", "11", "rtx"])
def test_the_third_call_launches(cuda: FakeCuda, generation: str) -> None:
    trt = FakeTensorRT(cuda, generation)
    with open_session(trt, PLAN) as session:
        feeds = session.put({"x": _x(4, 3)})
        seen = []
        for _ in range(5):
            assert (session.run(feeds)["y"].numpy() == 6).all()
            seen.append(_launches(cuda))
        assert seen == [0, 0, 1, 2, 3]
        assert len(trt.contexts) == 2  # one for what comes once, one for the graph
        assert session.notes == []


def test_a_launch_is_all_that_happens(cuda: FakeCuda, trt: FakeTensorRT) -> None:
    with open_session(trt, PLAN) as session:
        feeds = session.put({"x": _x(4)})
        for _ in range(3):
            session.run(feeds)
        before = cuda.calls.copy()
        session.run(feeds)
        assert cuda.calls - before == {"cudaGraphLaunch": 1}


def test_new_values_at_known_addresses(cuda: FakeCuda, trt: FakeTensorRT) -> None:
    with open_session(trt, PLAN) as session:
        feeds = session.put({"x": _x(4)})
        for i in range(6):
            cuda.cudaStreamSynchronize(session._stream)
            cuda.view(feeds["x"].ptr, (1, 4), np.float32)[...] = i
            assert (session.run(feeds)["y"].numpy() == 2 * i).all()
        assert _launches(cuda) == 4


def test_host_inputs_are_graphs_too(cuda: FakeCuda, trt: FakeTensorRT) -> None:
    with open_session(trt, PLAN) as session:
        for i in range(6):
            assert (session.run({"x": _x(4, i)})["y"].numpy() == 2 * i).all()
        assert _launches(cuda) == 4


def test_another_address_is_another_graph(cuda: FakeCuda, trt: FakeTensorRT) -> None:
    with open_session(trt, PLAN) as session:
        one, other = session.put({"x": _x(4, 1)}), session.put({"x": _x(4, 2)})
        for _ in range(3):
            session.run(one)
        assert _launches(cuda) == 1
        assert (session.run(other)["y"].numpy() == 4).all()
        assert _launches(cuda) == 1
        for feeds, value in ((one, 2), (other, 4), (other, 4), (one, 2)):
            assert (session.run(feeds)["y"].numpy() == value).all()
        assert _launches(cuda) == 4
        assert len(session._graphs) == 2


def test_outputs_that_grow_void_graphs(cuda: FakeCuda, trt: FakeTensorRT) -> None:
    with open_session(trt, PLAN) as session:
        small = session.put({"x": _x(4, 5)})
        for _ in range(3):
            session.run(small)
        assert len(cuda.executables) == 1
        session.run({"x": _x(64)})
        assert len(cuda.executables) == 0
        launched = _launches(cuda)
        assert (session.run(small)["y"].numpy() == 10).all()
        assert (session.run(small)["y"].numpy() == 10).all()
        assert _launches(cuda) == launched
        assert (session.run(small)["y"].numpy() == 10).all()
        assert _launches(cuda) == launched + 1


def test_activations_that_move_void_graphs(cuda: FakeCuda, trt: FakeTensorRT) -> None:
    larger = plan({"x": ("float32", [1, -1])}, profiles=[PROFILE], activations=1 << 16)
    with Shared() as shared, open_session(trt, PLAN, shared) as session:
        feeds = session.put({"x": _x(4, 5)})
        for _ in range(3):
            session.run(feeds)
        launched = _launches(cuda)
        with open_session(trt, larger, shared):
            assert (session.run(feeds)["y"].numpy() == 10).all()  # would write over what was freed
            assert _launches(cuda) == launched
            for _ in range(2):
                assert (session.run(feeds)["y"].numpy() == 10).all()
            assert _launches(cuda) == launched + 1


def test_the_graphs_used_last_are_kept(cuda: FakeCuda, trt: FakeTensorRT) -> None:
    with open_session(trt, PLAN, max_cuda_graphs=2) as session:
        session.run({"x": _x(64)})
        feeds = {n: session.put({"x": _x(n, n)}) for n in (1, 2, 3)}
        for n in (1, 2):
            for _ in range(3):
                session.run(feeds[n])
        session.run(feeds[1])
        for _ in range(3):
            session.run(feeds[3])  # in place of 2
        assert len(cuda.executables) == 2
        before = _launches(cuda)
        assert (session.run(feeds[1])["y"].numpy() == 2).all()
        assert _launches(cuda) == before + 1
        assert (session.run(feeds[2])["y"].numpy() == 4).all()
        assert _launches(cuda) == before + 1


def test_no_graphs_where_they_are_off(cuda: FakeCuda, trt: FakeTensorRT) -> None:
    with open_session(trt, PLAN, cuda_graphs=False) as session:
        for _ in range(5):
            assert (session.run({"x": _x(4)})["y"].numpy() == 2).all()
        assert _launches(cuda) == 0
        assert cuda.calls["cudaStreamBeginCapture"] == 0
        assert len(trt.contexts) == 1


@pytest.mark.parametrize("how", ["capture", "context", "cudaStreamBeginCapture", "cudaGraphInstantiate"])
def test_what_cannot_be_recorded_runs_without_and_says_so(cuda: FakeCuda, trt: FakeTensorRT, how: str) -> None:
    with open_session(trt, PLAN) as session:
        bad, good = session.put({"x": _x(4, 3)}), session.put({"x": _x(5, 3)})
        session.run({"x": _x(64)})
        session.run(bad)
        if how.startswith("cuda"):
            cuda.fail(how, 901)
        else:
            trt.fail(how, "not supported in a capture")
        for _ in range(4):
            assert (session.run(bad)["y"].numpy() == 6).all()
        assert _launches(cuda) == 0
        assert len(session.notes) == 1
        assert "no CUDA graph for 'x' (1, 4), which run without" in session.notes[0]
        for _ in range(3):
            session.run(good)
        assert _launches(cuda) == 1


def test_recording_is_given_up_after_enough_failures(cuda: FakeCuda, trt: FakeTensorRT) -> None:
    trt.fail("capture", "never", times=100)
    with open_session(trt, PLAN) as session:
        session.run({"x": _x(64)})
        for n in range(1, FAILURES + 4):
            for _ in range(3):
                assert (session.run({"x": _x(n, n)})["y"].numpy() == 2 * n).all()
        assert len(session.notes) == FAILURES + 1
        assert "no more CUDA graphs" in session.notes[-1]


def test_a_graph_of_rtx_is_of_the_kernels_for_its_shapes(cuda: FakeCuda) -> None:
    trt = FakeTensorRT(cuda, "rtx")
    with open_session(trt, PLAN) as session:
        for _ in range(3):
            session.run({"x": _x(4)})
        eager = trt.DynamicShapesKernelSpecializationStrategy.EAGER
        strategies = [c.config.dynamic_shapes_kernel_specialization_strategy for c in trt.contexts]
        assert [s == eager for s in strategies] == [False, True]
        assert trt.contexts[0].config.cache is trt.contexts[1].config.cache is not None


def test_a_graph_is_not_dropped_while_it_runs(cuda: FakeCuda, trt: FakeTensorRT) -> None:
    with open_session(trt, PLAN, max_cuda_graphs=1) as session:
        feeds = [session.put({"x": _x(64, v)}) for v in (1, 2)]
        for i in (0, 0, 0, 1, 1, 0, 0, 0, 1, 1):
            got = session.run(feeds[i])["y"]  # nothing waits; the fake finds runs whose context is gone
        assert (got.numpy() == 4).all()


def _chain(trt: FakeTensorRT, shared: Shared) -> tuple[Any, Any]:
    return open_session(trt, PLAN, shared), open_session(trt, PLAN, shared)


def test_a_chain_of_engines_is_a_chain_of_launches(cuda: FakeCuda, trt: FakeTensorRT) -> None:
    with Shared() as shared:
        first, second = _chain(trt, shared)
        with first, second:
            feeds = first.put({"x": _x(4, 3)})
            for _ in range(3):
                got = second.run({"x": first.run(feeds)["y"]})
            before = cuda.calls.copy()
            got = second.run({"x": first.run(feeds)["y"]})
            assert cuda.calls - before == {"cudaGraphLaunch": 2}
            assert (got["y"].numpy() == 12).all()
