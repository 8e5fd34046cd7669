"""What a session takes: arrays of torch, cupy, DLPack and numpy, used where they lie or copied, or refused in words."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from autovoice.errors import FeedError
from tests.fakes.cuda import FakeCuda
from tests.fakes.tensorrt import FakeTensorRT, open_session, plan

PROFILE = {"x": {"min": [1, 1], "opt": [1, 4], "max": [1, 64]}}
PLAN = plan({"x": ("float32", [1, -1])}, profiles=[PROFILE])
VALUES = np.array([[1, 2, 3, 4]], np.float32)


@pytest.fixture
def session(cuda: FakeCuda) -> Iterator[Any]:
    with open_session(FakeTensorRT(cuda), PLAN) as made:
        yield made


@dataclass
class Interface:
    """An array as cupy or numba gives it."""

    ptr: int
    shape: tuple[int, ...] = (1, 4)
    typestr: str = "<f4"
    strides: tuple[int, ...] | None = None
    stream: int | None = None

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        fields = {"shape": self.shape, "typestr": self.typestr, "data": (self.ptr, False), "version": 3}
        return fields | {"strides": self.strides, "stream": self.stream}


@dataclass
class Torch:
    """A tensor on the GPU as torch gives it."""

    ptr: int
    shape: tuple[int, ...] = (1, 4)
    dtype: str = "torch.float32"
    contiguous: bool = True
    index: int = 0
    is_cuda: bool = True

    def data_ptr(self) -> int:
        return self.ptr

    def is_contiguous(self) -> bool:
        return self.contiguous

    @property
    def device(self) -> Any:
        return SimpleNamespace(index=self.index)


class Capsule:
    """An array that speaks DLPack and nothing else."""

    def __init__(self, session: Any, values: np.ndarray) -> None:
        self._array = session.put({"x": values})["x"]
        self.asked: list[Any] = []

    def __dlpack_device__(self) -> tuple[int, int]:
        return 2, 0

    def __dlpack__(self, stream: Any = None) -> Any:
        self.asked.append(stream)
        return self._array.__dlpack__(stream=stream)


@pytest.mark.parametrize("kind", [Interface, Torch])
def test_used_where_they_lie_and_launched_at_once(cuda: FakeCuda, session: Any, kind: Any) -> None:
    ptr = cuda.allocate(VALUES)
    for i in range(5):
        before = cuda.calls.copy()
        got = session.run({"x": kind(ptr)})["y"]  # another object over the same memory each time
        if i >= 3:
            assert cuda.calls - before == {"cudaGraphLaunch": 1}
        assert cuda.calls["cudaMemcpyAsync"] == before["cudaMemcpyAsync"]
        np.testing.assert_array_equal(got.numpy(), VALUES * 2)


@pytest.mark.parametrize("kind", [Interface, Torch])
def test_not_on_a_boundary_is_copied(cuda: FakeCuda, session: Any, kind: Any) -> None:
    ptr = cuda.allocate(VALUES, offset=4)
    for _ in range(4):
        np.testing.assert_array_equal(session.run({"x": kind(ptr)})["y"].numpy(), VALUES * 2)
    assert cuda.calls["cudaGraphLaunch"] == 2  # the copy has an address that stays


def test_dlpack_is_used_where_it_lies(cuda: FakeCuda, session: Any) -> None:
    array = Capsule(session, VALUES)
    before = cuda.calls["cudaMemcpyAsync"]
    got = session.run({"x": array})["y"]
    assert cuda.calls["cudaMemcpyAsync"] == before
    np.testing.assert_array_equal(got.numpy(), VALUES * 2)
    assert array.asked == [1]  # ordered before the legacy stream, with which the session's is


def test_torch_tensors_of_the_host(session: Any) -> None:
    torch = pytest.importorskip("torch")
    for tensor in (torch.from_numpy(VALUES), torch.from_numpy(VALUES.T.copy()).T, torch.nn.Parameter(torch.ones(1, 4))):
        got = session.run({"x": tensor})["y"].numpy()
        np.testing.assert_array_equal(got, tensor.detach().numpy() * 2)


def test_strided_arrays_of_the_host(session: Any) -> None:
    wide = np.arange(16, dtype=np.float32).reshape(1, 16)
    np.testing.assert_array_equal(session.run({"x": wide[:, ::2]})["y"].numpy(), wide[:, ::2] * 2)


def test_another_librarys_stream_is_waited_for_every_time(cuda: FakeCuda, session: Any) -> None:
    ptr = cuda.allocate(np.zeros((1, 4), np.float32))
    for i in range(1, 6):
        stream = cuda.foreign_stream(lambda i=i: cuda.view(ptr, (1, 4), np.float32).fill(i))
        got = session.run({"x": Interface(ptr, stream=stream)})["y"]
        assert (got.numpy() == 2 * i).all()
    assert cuda.calls["cudaGraphLaunch"] == 3


@pytest.mark.parametrize("stream", [None, 1])
def test_the_default_stream_needs_no_event(cuda: FakeCuda, session: Any, stream: int | None) -> None:
    session.run({"x": Interface(cuda.allocate(VALUES), stream=stream)})
    assert cuda.calls["cudaStreamWaitEvent"] == 0


def test_a_session_may_be_fed_its_own_answer(cuda: FakeCuda, session: Any) -> None:
    state: Any = VALUES
    for i in range(1, 7):
        state = session.run({"x": state})["y"]
        np.testing.assert_array_equal(state.numpy(), VALUES * 2**i)


def test_an_answer_of_another_pipeline_is_waited_for(cuda: FakeCuda, session: Any) -> None:
    with open_session(FakeTensorRT(cuda), PLAN) as other:
        for _ in range(5):
            got = session.run({"x": other.run({"x": VALUES})["y"]})["y"]
            np.testing.assert_array_equal(got.numpy(), VALUES * 4)
        assert cuda.calls["cudaStreamWaitEvent"] >= 5


@pytest.mark.parametrize(
    ("make", "fact", "fix"),
    [
        (lambda c: np.zeros((1, 4)), "input 'x' is float64, the engine takes float32", "astype('float32')"),
        (lambda c: Interface(c.allocate(VALUES), typestr="<i4"), "is int32, the engine takes float32", "torch.float32"),
        (lambda c: Torch(c.allocate(VALUES), dtype="torch.bfloat16"), "is bfloat16", "float32"),
        (lambda c: Torch(c.allocate(VALUES), contiguous=False), "not contiguous", ".contiguous()"),
        (lambda c: Interface(c.allocate(VALUES), strides=(4, 8)), "not contiguous", "ascontiguousarray"),
        (lambda c: Torch(c.allocate(VALUES), index=1), "is on GPU 1, the engine on GPU 0", "move it"),
        (lambda c: [[1.0]], "input 'x' is a list", "numpy array"),
        (lambda c: np.zeros((4,), np.float32), "has 1 axes (4,)", "1×?"),
        (lambda c: np.zeros((1, 65), np.float32), "axis 1: 65 is in no profile", "1 to 64"),
        (lambda c: np.zeros((2, 4), np.float32), "axis 0: 2 is in no profile", "profiles: 1;"),
    ],
    ids=["double", "int", "bfloat16", "torch", "strides", "gpu", "list", "rank", "long", "batch"],
)
def test_refused_in_two_lines(cuda: FakeCuda, session: Any, make: Any, fact: str, fix: str) -> None:
    with pytest.raises(FeedError) as e:
        session.run({"x": make(cuda)})
    assert fact in e.value.fact
    assert fix in e.value.fix
    np.testing.assert_array_equal(session.run({"x": VALUES})["y"].numpy(), VALUES * 2)


def test_a_tensor_that_was_transposed_is_refused_after_graphs_too(cuda: FakeCuda, session: Any) -> None:
    ptr = cuda.allocate(VALUES)
    for _ in range(4):
        session.run({"x": Torch(ptr)})
    with pytest.raises(FeedError, match="not contiguous"):
        session.run({"x": Torch(ptr, contiguous=False)})
    with pytest.raises(FeedError, match="float16"):
        session.run({"x": Torch(ptr, dtype="torch.float16")})


@pytest.mark.parametrize(
    ("feeds", "words"),
    [({}, "input 'x' is missing"), ({"x": VALUES, "z": VALUES}, "has no input 'z'"), ({"X": VALUES}, "no input 'X'")],
    ids=["missing", "unknown", "misspelt"],
)
def test_names(session: Any, feeds: Any, words: str) -> None:
    with pytest.raises(FeedError, match=words):
        session.run(feeds)


def test_an_unknown_name_is_told_after_graphs_too(session: Any) -> None:
    feeds = session.put({"x": VALUES})
    for _ in range(4):
        session.run(feeds)
    with pytest.raises(FeedError, match="has no input 'z'"):
        session.run({**feeds, "z": VALUES})


def test_memory_that_is_gone_is_not_launched_over(cuda: FakeCuda, session: Any) -> None:
    from autovoice.errors import BuildError

    feeds = session.put({"x": VALUES})
    for _ in range(4):
        session.run(feeds)
    feeds["x"]._block.free()
    with pytest.raises(BuildError, match="given back"):
        session.run(feeds)
