"""What a session takes of the GPU: bounded, shared between engines, and given back."""

from __future__ import annotations

import numpy as np
import pytest

from autovoice.backends.base import Shared
from autovoice.errors import BuildError
from tests.fakes.cuda import FakeCuda
from tests.fakes.tensorrt import FakeTensorRT, open_session, plan


@pytest.fixture
def trt(cuda: FakeCuda) -> FakeTensorRT:
    return FakeTensorRT(cuda)


MOST = 500
PROFILE = {"x": {"min": [1, 1], "opt": [1, 4], "max": [1, MOST]}}


def _plan(activations: int = 1024) -> bytes:
    return plan({"x": ("float32", [1, -1])}, profiles=[PROFILE], activations=activations)


def _x(length: int) -> np.ndarray:
    return np.arange(length, dtype=np.float32)[None]


def test_a_thousand_lengths_are_bounded(cuda: FakeCuda, trt: FakeTensorRT) -> None:
    rng = np.random.default_rng(0)
    with open_session(trt, _plan()) as session:
        for n in rng.integers(1, MOST + 1, 1000):
            np.testing.assert_array_equal(session.run({"x": _x(n)})["y"].numpy(), _x(n) * 2)
        io = 2 * 4 * MOST  # an input and an output at the profile's greatest size, and no more
        assert cuda.peak <= 1024 + io
        assert cuda.pinned_bytes <= 2 * 1.5 * (4 * MOST + 256)
        assert len(session._executions._fits) <= 256
        assert len(session._graphs) <= 8
        assert len(cuda.executables) == len(session._graphs)
        assert len(session._by_fingerprint) == 0  # arrays of the host are looked at each time


def test_buffers_grow_seldom(cuda: FakeCuda, trt: FakeTensorRT) -> None:
    with open_session(trt, _plan(), cuda_graphs=False) as session:
        for n in range(1, MOST + 1):
            session.run({"x": _x(n)})
        assert cuda.calls["cudaMalloc"] < 40


def test_engines_share_the_largest_activations(cuda: FakeCuda, trt: FakeTensorRT) -> None:
    sizes = (10_000, 60_000, 30_000)
    with Shared() as shared:
        sessions = [open_session(trt, _plan(s), shared) for s in sizes]
        assert cuda.device_bytes == max(sizes)
        assert cuda.peak == max(sizes)  # freed before more is taken
        for session in sessions:
            np.testing.assert_array_equal(session.run({"x": _x(5)})["y"].numpy(), _x(5) * 2)
        assert cuda.calls["cudaStreamCreateWithFlags"] == 1
        for session in sessions:
            session.close()


def test_an_engine_without_activations(cuda: FakeCuda, trt: FakeTensorRT) -> None:
    with open_session(trt, _plan(0)) as session:
        assert cuda.device_bytes == 0
        np.testing.assert_array_equal(session.run({"x": _x(5)})["y"].numpy(), _x(5) * 2)


def test_device_outputs_are_inputs_without_a_copy(cuda: FakeCuda, trt: FakeTensorRT) -> None:
    with Shared() as shared, open_session(trt, _plan(), shared) as a, open_session(trt, _plan(), shared) as b:
        feeds = a.put({"x": _x(5)})
        before = cuda.calls["cudaMemcpyAsync"]
        got = b.run({"x": a.run(feeds)["y"]})["y"]
        assert cuda.calls["cudaMemcpyAsync"] == before
        np.testing.assert_array_equal(got.numpy(), _x(5) * 4)


def test_what_was_put_lives_with_its_arrays(cuda: FakeCuda, trt: FakeTensorRT) -> None:
    with open_session(trt, _plan()) as session:
        before = cuda.device_bytes
        feeds = session.put({"x": _x(100)})
        assert cuda.device_bytes == before + 400
        np.testing.assert_array_equal(feeds["x"].numpy(), _x(100))
        del feeds
        assert cuda.device_bytes == before


def test_what_was_put_is_a_copy(cuda: FakeCuda, trt: FakeTensorRT) -> None:
    with open_session(trt, _plan()) as session:
        first = session.put({"x": _x(8)})
        second = session.put(first)
        assert second["x"].ptr != first["x"].ptr
        np.testing.assert_array_equal(second["x"].numpy(), _x(8))


def test_closing_frees_what_was_put(cuda: FakeCuda, trt: FakeTensorRT) -> None:
    session = open_session(trt, _plan())
    feeds = session.put({"x": _x(8)})
    session.close()
    assert not feeds["x"].alive
    assert cuda.device_bytes == 0


def test_what_dlpack_gave_away_outlives_the_session(cuda: FakeCuda, trt: FakeTensorRT) -> None:
    session = open_session(trt, _plan(), cuda_graphs=False)
    got = session.run({"x": _x(8)})["y"]
    capsule = got.__dlpack__()
    session.run({"x": _x(MOST)})  # the buffer moves
    assert cuda.memory[got.ptr].nbytes >= got.nbytes
    session.close()
    assert cuda.device_bytes >= got.nbytes
    del capsule
    assert cuda.device_bytes == 0


def test_too_large_for_the_gpu_names_the_tensor(trt: FakeTensorRT, cuda: FakeCuda) -> None:
    cuda.capacity = 2048
    with open_session(trt, _plan()) as session:
        with pytest.raises(BuildError, match=r"input 'x' of 2,000 bytes on the GPU.*1,024 bytes of 2,048 are free"):
            session.run({"x": _x(MOST)})
        np.testing.assert_array_equal(session.run({"x": _x(5)})["y"].numpy(), _x(5) * 2)


def test_activations_too_large_name_the_engine(cuda: FakeCuda, trt: FakeTensorRT) -> None:
    cuda.capacity = 2048
    with pytest.raises(BuildError, match="the activations of the engine of 4,096 bytes"):
        open_session(trt, _plan(4096))
