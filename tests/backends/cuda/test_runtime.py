"""CUDA's status codes as errors, and a machine without it."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from autovoice.backends.cuda.arena import Arena
from autovoice.backends.cuda.memory import Block, PinnedBuffer
from autovoice.backends.cuda.runtime import checked, load
from autovoice.errors import BuildError
from tests.fakes.cuda import FakeCuda, cudaError_t, installed


def test_values_behind_the_status() -> None:
    with installed(FakeCuda()):
        assert checked((cudaError_t.cudaSuccess,), "waiting") is None
        assert checked((cudaError_t.cudaSuccess, 5), "waiting") == 5
        assert checked((cudaError_t.cudaSuccess, 5, 6), "waiting") == (5, 6)


def test_a_status_in_cudas_words() -> None:
    with installed(FakeCuda()), pytest.raises(BuildError) as e:
        checked((cudaError_t.cudaErrorInvalidValue, None), "making a stream")
    assert e.value.fact == "CUDA, making a stream: what CUDA says of it (cudaErrorInvalidValue)"
    assert e.value.fix


def test_after_a_fault_only_a_new_process_helps() -> None:
    with installed(FakeCuda()), pytest.raises(BuildError, match="start it again"):
        checked((cudaError_t.cudaErrorIllegalAddress,), "waiting")


@pytest.mark.parametrize("status", [35, 100])
def test_no_driver_by_status(status: int) -> None:
    cuda = FakeCuda()
    cuda.fail("cudaGetDeviceCount", status)
    with installed(cuda), pytest.raises(BuildError, match="no NVIDIA driver") as e:
        load()
    assert "backend=onnxruntime" in e.value.fix


def test_no_driver_by_exception() -> None:
    class DynamicLibNotFoundError(RuntimeError): ...

    def count() -> None:
        raise DynamicLibNotFoundError('"cuda" can only be found via system search\nmore')

    with installed(SimpleNamespace(cudaGetDeviceCount=count)), pytest.raises(BuildError, match="no NVIDIA driver") as e:
        load()
    assert "\n" not in e.value.fact
    assert "backend=onnxruntime" in e.value.fix


def test_no_cuda_python(monkeypatch: pytest.MonkeyPatch) -> None:
    with installed(FakeCuda()):
        monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", None)
        with pytest.raises(BuildError, match="cuda-python cannot be imported"):
            load()


def test_out_of_memory_names_what_how_much_and_what_is_left() -> None:
    cuda = FakeCuda(capacity=10_000)
    with installed(cuda):
        kept = Block(4_000, "input 'mel'")
        with pytest.raises(BuildError) as e:
            Block(7_000, "input 'f0'")
        kept.free()
    assert "input 'f0' of 7,000 bytes on the GPU" in e.value.fact
    assert "out of memory" in e.value.fact
    assert "6,000 bytes of 10,000 are free" in e.value.fact
    assert cuda.leaks == {}


@pytest.mark.parametrize("call", ["cudaMalloc", "cudaMallocHost"])
def test_a_null_pointer_is_never_handed_on(call: str) -> None:
    cuda = FakeCuda()
    cuda.fail_null(call)
    with installed(cuda), pytest.raises(BuildError, match="a null pointer"):
        Block(8, "input 'x'") if call == "cudaMalloc" else PinnedBuffer("inputs").ensure(8)
    assert (cuda.leaks, cuda.faults) == ({}, [])


def test_an_arena_that_cannot_be_made_leaves_nothing() -> None:
    import threading

    cuda = FakeCuda()
    cuda.fail("cudaStreamCreateWithFlags", 1)
    with installed(cuda), pytest.raises(BuildError, match="making a stream"):
        Arena(threading.RLock())
    assert cuda.leaks == {}
