"""A session over a TensorRT and a CUDA that are not there: answers, profiles, errors, and nothing left behind."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autovoice.backends.base import Shared
from autovoice.backends.cuda.array import DeviceArray
from autovoice.backends.tensorrt.log import Log
from autovoice.backends.tensorrt.session import EngineSession
from autovoice.errors import BuildError, FeedError, MismatchError
from tests.fakes.cuda import FakeCuda, installed
from tests.fakes.tensorrt import FakeTensorRT, open_session, plan, sidecar

GENERATIONS = ("10", "11", "rtx")


@pytest.fixture
def trt(cuda: FakeCuda) -> FakeTensorRT:
    return FakeTensorRT(cuda, "10")


def _profile(low: int, high: int) -> dict[str, Any]:
    return {"x": {"min": [1, low], "opt": [1, low], "max": [1, high]}}


X = {"x": ("float32", [1, -1])}
PLAN = plan(X, profiles=[_profile(1, 64)])
TWO = plan(X, profiles=[_profile(1, 8), _profile(16, 64)])


def _x(length: int, first: float = 0.0) -> np.ndarray:
    return (np.arange(length, dtype=np.float32) + np.float32(first))[None]


# --- answers ---------------------------------------------------


@pytest.mark.parametrize("generation", GENERATIONS)
def test_every_generation_answers(cuda: FakeCuda, generation: str) -> None:
    with open_session(FakeTensorRT(cuda, generation), PLAN) as session:
        for n in (4, 4, 4, 7, 4, 64, 64, 64):
            got = session.run({"x": _x(n)})["y"]
            assert isinstance(got, DeviceArray)
            np.testing.assert_array_equal(got.numpy(), _x(n) * 2)
        assert session.notes == []
    assert session.memory == "cuda"


def test_an_engine_by_its_path(cuda: FakeCuda, trt: FakeTensorRT, tmp_path: Path) -> None:
    path = tmp_path / "engine.engine"
    path.write_bytes(PLAN)
    with EngineSession(trt, path, sidecar(PLAN), ("y",), {}, log=Log(trt)) as session:
        np.testing.assert_array_equal(session.run({"x": _x(3)})["y"].numpy(), _x(3) * 2)


def test_every_dtype(cuda: FakeCuda, trt: FakeTensorRT) -> None:
    kinds = ("float32", "float16", "int64", "int32", "int8", "uint8")
    made = plan({k: (k, [2]) for k in kinds}, {f"{k}_out": {"of": k} for k in kinds})
    with open_session(trt, made) as session:
        got = session.run({k: np.array([3, 4], k) for k in kinds})
    # the session is closed: what was not read by then is gone, by name
    with pytest.raises(BuildError, match="given back"):
        got["int8_out"].numpy()
    with open_session(trt, made) as session:
        for name, array in session.run({k: np.array([3, 4], k) for k in kinds}).items():
            np.testing.assert_array_equal(array.numpy(), np.array([6, 8], name.removesuffix("_out")), strict=True)


def test_only_the_outputs_asked_for_in_their_order(cuda: FakeCuda, trt: FakeTensorRT) -> None:
    made = plan(X, {n: {"of": "x", "scale": i} for i, n in enumerate("abc")}, [_profile(1, 8)])
    with open_session(trt, made, outputs=("c", "a")) as session:
        for _ in range(4):
            assert list(session.run({"x": _x(2)})) == ["c", "a"]


def test_an_answer_is_the_callers_to_change(cuda: FakeCuda, trt: FakeTensorRT) -> None:
    with open_session(trt, PLAN) as session:
        feeds = session.put({"x": _x(2)})
        for _ in range(5):
            got = session.run(feeds)
            assert list(got) == ["y"]
            got.clear()


def test_outputs_longer_than_inputs_and_scalars(cuda: FakeCuda, trt: FakeTensorRT) -> None:
    inputs = {**X, "speed": ("float32", [])}
    made = plan(inputs, {"audio": {"of": "x", "stretch": 4}, "s": {"of": "speed"}}, [_profile(1, 16)])
    with open_session(trt, made) as session:
        for n in (2, 2, 2, 16):
            got = session.run({"x": _x(n), "speed": np.array(1.5, np.float32)})
            np.testing.assert_array_equal(got["audio"].numpy(), np.repeat(_x(n), 4, -1) * 2)
            assert float(got["s"].numpy()) == 3.0


def test_inputs_may_change_as_soon_as_run_returns(cuda: FakeCuda, trt: FakeTensorRT) -> None:
    with open_session(trt, PLAN) as session:
        x = _x(4)
        for i in range(6):
            x[...] = i
            got = session.run({"x": x})
            x[...] = -1
            assert (got["y"].numpy() == 2 * i).all()


def test_runs_are_not_waited_for(cuda: FakeCuda, trt: FakeTensorRT) -> None:
    with open_session(trt, PLAN) as session:
        feeds = session.put({"x": _x(4)})
        for _ in range(3):
            session.run(feeds)
        session.wait()
        before = trt.runs
        session.run(feeds)
        assert trt.runs == before
        session.wait()
        assert trt.runs == before + 1


# --- profiles ---------------------------------------------------


def test_the_first_profile_that_holds_the_shapes(cuda: FakeCuda, trt: FakeTensorRT) -> None:
    with open_session(trt, TWO, cuda_graphs=False) as session:
        for n in (4, 20, 5, 64):
            np.testing.assert_array_equal(session.run({"x": _x(n)})["y"].numpy(), _x(n) * 2)
        assert [c.profile for c in trt.contexts] == [0, 1]


def test_a_size_in_no_profile_names_input_axis_and_profiles(cuda: FakeCuda, trt: FakeTensorRT) -> None:
    with open_session(trt, TWO) as session, pytest.raises(FeedError) as e:
        session.run({"x": _x(12)})
    assert e.value.fact == "input 'x', axis 1: 12 is in no profile of this engine"
    assert "1 to 8, 16 to 64" in e.value.fix


def test_sizes_that_no_one_profile_holds(cuda: FakeCuda, trt: FakeTensorRT) -> None:
    def both(x: int, z: int) -> dict[str, Any]:
        return {n: {k: [1, s] for k in ("min", "opt", "max")} for n, s in (("x", x), ("z", z))}

    made = plan({**X, "z": ("float32", [1, -1])}, profiles=[both(2, 3), both(4, 5)])
    with open_session(trt, made) as session, pytest.raises(FeedError, match="no one profile holds 'x'"):
        session.run({"x": _x(2), "z": _x(5)})


def test_sizes_that_do_not_fit_together(cuda: FakeCuda, trt: FakeTensorRT) -> None:
    profile = {n: {"min": [1, 1], "opt": [1, 4], "max": [1, 8]} for n in ("x", "z")}
    made = plan({**X, "z": ("float32", [1, -1])}, profiles=[profile], same_length=True)
    with open_session(trt, made) as session:
        with pytest.raises(FeedError, match=r"'x' 1×2, 'z' 1×5 do not fit together") as e:
            session.run({"x": _x(2), "z": _x(5)})
        assert "lengths [2, 5] differ" in e.value.fix
        np.testing.assert_array_equal(session.run({"x": _x(5), "z": _x(5)})["y"].numpy(), _x(5) * 2)


# --- errors ---------------------------------------------------


@pytest.mark.parametrize("generation", GENERATIONS)
def test_bytes_that_are_no_engine(cuda: FakeCuda, generation: str) -> None:
    trt = FakeTensorRT(cuda, generation)
    with pytest.raises(MismatchError, match="magicTag == kPLAN_TAG") as e:
        EngineSession(trt, b"nonsense", sidecar(PLAN), ("y",), {}, log=Log(trt))
    assert "build it again" in e.value.fix


def test_a_context_that_cannot_be_made(cuda: FakeCuda, trt: FakeTensorRT) -> None:
    trt.fail("context", "no memory for constants")
    with open_session(trt, PLAN) as session:
        with pytest.raises(BuildError, match="no memory for constants"):
            session.run({"x": _x(2)})
        np.testing.assert_array_equal(session.run({"x": _x(2)})["y"].numpy(), _x(2) * 2)


def test_a_run_that_is_refused_in_its_own_words_not_in_earlier_ones(cuda: FakeCuda, trt: FakeTensorRT) -> None:
    with open_session(trt, PLAN, cuda_graphs=False) as session:
        for words in ("first words", "second words"):
            trt.fail("enqueue", words)
            with pytest.raises(BuildError, match=f"cannot run the engine: {words}"):
                session.run({"x": _x(2)})
        np.testing.assert_array_equal(session.run({"x": _x(2)})["y"].numpy(), _x(2) * 2)


def test_an_output_whose_shape_depends_on_values(cuda: FakeCuda, trt: FakeTensorRT) -> None:
    made = plan(X, {"y": {"of": "x", "values": True}}, [_profile(1, 8)])
    with open_session(trt, made) as session, pytest.raises(BuildError, match="'y' has a shape that depends on values"):
        session.run({"x": _x(2)})


def test_a_shape_tensor_is_refused_at_load(cuda: FakeCuda, trt: FakeTensorRT) -> None:
    made = plan({**X, "size": ("int64", [2])}, profiles=[_profile(1, 8)], host=["size"])
    with pytest.raises(BuildError, match="'size' holds sizes that TensorRT reads on the host"):
        open_session(trt, made)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"inputs": {"other": {"dtype": "float32", "shape": [1, -1]}}}, r"tensors x \(input\)"),
        ({"inputs": {"x": {"dtype": "float16", "shape": [1, -1]}}}, "'x' as FLOAT"),
        ({"inputs": {"x": {"dtype": "float32", "shape": [-1]}}}, "'x' with 2 axes"),
        ({"inputs": {"x": {"dtype": "bfloat16", "shape": [1, -1]}}}, "which no session takes"),
        ({"profiles": [_profile(1, 2), _profile(3, 4)]}, "1 profiles"),
    ],
    ids=["name", "dtype", "rank", "bfloat16", "profiles"],
)
def test_a_sidecar_of_another_engine(cuda: FakeCuda, trt: FakeTensorRT, change: dict[str, Any], words: str) -> None:
    with pytest.raises(BuildError, match=words):
        EngineSession(trt, PLAN, {**sidecar(PLAN), **change}, ("y",), {}, log=Log(trt))


def test_an_output_there_is_not(cuda: FakeCuda, trt: FakeTensorRT) -> None:
    with pytest.raises(BuildError, match="no output 'z'"):
        open_session(trt, PLAN, outputs=("z",))


@pytest.mark.parametrize("generation", GENERATIONS)
def test_no_driver(generation: str) -> None:
    cuda = FakeCuda(devices=0)
    with installed(cuda), pytest.raises(BuildError, match="no NVIDIA driver"):
        open_session(FakeTensorRT(cuda, generation), PLAN)


def test_a_fault_on_the_device_is_told_and_all_is_freed() -> None:
    with installed(FakeCuda()) as cuda:
        trt = FakeTensorRT(cuda)
        session = open_session(trt, PLAN)
        feeds = session.put({"x": _x(4)})
        got = session.run(feeds)
        cuda.memory[feeds["x"].ptr].nbytes = 4  # as if somebody had freed it
        with pytest.raises(BuildError, match="IllegalAddress") as e:
            got["y"].numpy()
        assert "start it again" in e.value.fix
        session.close()


# --- the end ---------------------------------------------------


def test_closed_is_closed(cuda: FakeCuda, trt: FakeTensorRT) -> None:
    session = open_session(trt, PLAN)
    feeds = session.put({"x": _x(4)})
    for _ in range(4):
        session.run(feeds)
    session.close()
    session.close()
    assert not any(c.alive for c in trt.contexts)
    for call in (lambda: session.run(feeds), lambda: session.put({"x": _x(1)}), session.wait, lambda: session.engine):
        with pytest.raises(BuildError, match="this session is closed") as e:
            call()
        assert e.value.fix == "load it again"


def test_a_pipeline_may_close_what_is_shared_first(cuda: FakeCuda, trt: FakeTensorRT) -> None:
    shared = Shared()
    session = open_session(trt, PLAN, shared)
    feeds = session.put({"x": _x(4)})
    for _ in range(4):
        session.run(feeds)
    shared.close()
    with pytest.raises(BuildError, match="closed"):
        session.run(feeds)
    session.close()


def test_a_session_leaves_what_is_shared(cuda: FakeCuda, trt: FakeTensorRT) -> None:
    with Shared() as shared:
        first = open_session(trt, PLAN, shared)
        got = first.run({"x": _x(2)})["y"]
        first.close()
        assert not got.alive
        assert cuda.device_bytes == 1024  # the activations, which others use
        with open_session(trt, PLAN, shared) as session:
            np.testing.assert_array_equal(session.run({"x": _x(2)})["y"].numpy(), _x(2) * 2)


def test_a_session_that_was_never_closed_leaves_nothing_either(cuda: FakeCuda, trt: FakeTensorRT) -> None:
    session = open_session(trt, PLAN)
    for _ in range(4):
        session.run({"x": _x(4)})
    del session
    assert cuda.leaks == {}


@pytest.mark.parametrize("call", ["cudaStreamCreateWithFlags", "cudaMalloc", "cudaGetDevice"])
def test_whatever_fails_at_load_leaves_nothing(cuda: FakeCuda, trt: FakeTensorRT, call: str) -> None:
    cuda.fail(call)
    with pytest.raises(BuildError):
        open_session(trt, PLAN)


@pytest.mark.parametrize("call", ["cudaMalloc", "cudaMallocHost", "cudaEventCreateWithFlags", "cudaMemcpyAsync"])
def test_whatever_fails_in_a_run_leaves_a_session_that_goes_on(cuda: FakeCuda, trt: FakeTensorRT, call: str) -> None:
    with open_session(trt, PLAN) as session:
        session.run({"x": _x(2)})
        for _ in range(8):
            cuda.fail(call)
            try:
                session.run({"x": _x(64)})
            except BuildError:
                continue
        cuda.failures.clear()
        np.testing.assert_array_equal(session.run({"x": _x(64)})["y"].numpy(), _x(64) * 2)


# --- layers ---------------------------------------------------


def test_times_of_layers(cuda: FakeCuda, trt: FakeTensorRT) -> None:
    made = plan(X, profiles=[_profile(1, 8)], layers=[{"Name": "conv"}, {"Name": "relu"}])
    with open_session(trt, made) as session:
        assert session.profile({"x": _x(4)}, 3) == {"conv": 0.25, "relu": 0.5}
        assert session.engine.num_layers == 2
        np.testing.assert_array_equal(session.run({"x": _x(4)})["y"].numpy(), _x(4) * 2)


# --- threads ---------------------------------------------------


def _in_threads(work: Any, count: int) -> None:
    errors: list[BaseException] = []

    def guarded(i: int) -> None:
        try:
            work(i)
        except BaseException as e:
            errors.append(e)

    threads = [threading.Thread(target=guarded, args=(i,)) for i in range(count)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert errors == []


def test_sessions_of_their_own_in_threads(cuda: FakeCuda, trt: FakeTensorRT) -> None:
    def work(i: int) -> None:
        with open_session(trt, PLAN) as session:
            for n in (3, 3, 3, 9, 3, 3, 9, 9):
                np.testing.assert_array_equal(session.run({"x": _x(n, i)})["y"].numpy(), _x(n, i) * 2)

    _in_threads(work, 4)


def test_one_session_in_threads(cuda: FakeCuda, trt: FakeTensorRT) -> None:
    with Shared() as shared, open_session(trt, PLAN, shared) as session:

        def work(i: int) -> None:
            for n in (3, 3, 3, 9, 3, 3, 9, 9):
                with shared.lock:  # as a pipeline holds it, from a run to the end of reading its answer
                    np.testing.assert_array_equal(session.run({"x": _x(n, i)})["y"].numpy(), _x(n, i) * 2)

        _in_threads(work, 4)
