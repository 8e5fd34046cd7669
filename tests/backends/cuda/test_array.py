"""Device arrays as other libraries read them: copies to the host, the interface of numba and cupy, DLPack."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from autovoice.backends.cuda import dlpack
from autovoice.backends.cuda.arena import Arena
from autovoice.backends.cuda.array import DeviceArray
from autovoice.errors import BuildError
from tests.fakes.cuda import FakeCuda


@pytest.fixture
def arena(cuda: FakeCuda) -> Iterator[Arena]:
    made = Arena(threading.RLock())
    yield made
    made.close()


def _array(cuda: FakeCuda, arena: Arena, values: np.ndarray) -> DeviceArray:
    block = arena.allocate(values.nbytes, "a test")
    if values.size:
        cuda.view(block.ptr, values.shape, values.dtype)[...] = values
    return DeviceArray(block, values.shape, values.dtype, arena)


_VALUES = np.arange(6, dtype=np.float32).reshape(2, 3)


def test_numpy_is_a_copy_that_stays(cuda: FakeCuda, arena: Arena) -> None:
    array = _array(cuda, arena, _VALUES)
    got = array.numpy()
    again = array.numpy()
    arena.close()
    np.testing.assert_array_equal(got, _VALUES)
    assert got.flags.owndata
    assert got is not again


def test_numpy_waits_for_the_work_before(cuda: FakeCuda, arena: Arena) -> None:
    array = _array(cuda, arena, _VALUES)
    cuda.put(arena.stream.handle, lambda: cuda.view(array.ptr, (6,), np.float32).fill(9))
    assert (array.numpy() == 9).all()


@pytest.mark.parametrize("shape", [(), (0, 3), (5,)])
def test_shapes(cuda: FakeCuda, arena: Arena, shape: tuple[int, ...]) -> None:
    values = np.ones(shape, np.int64)
    array = _array(cuda, arena, values)
    assert (array.nbytes, array.size, array.ndim) == (values.nbytes, values.size, values.ndim)
    np.testing.assert_array_equal(array.numpy(), values)


def test_as_numpy_reads_it(cuda: FakeCuda, arena: Arena) -> None:
    array = _array(cuda, arena, _VALUES)
    np.testing.assert_array_equal(np.asarray(array), _VALUES)
    assert np.asarray(array, np.float64).dtype == np.float64
    assert len(array) == 2
    with pytest.raises(ValueError, match="without a copy"):
        array.__array__(copy=False)


def test_interface_of_numba_and_cupy(cuda: FakeCuda, arena: Arena) -> None:
    array = _array(cuda, arena, _VALUES)
    assert array.__cuda_array_interface__ == {
        "version": 3,
        "shape": (2, 3),
        "typestr": "<f4",
        "data": (array.ptr, False),
        "strides": None,
        "stream": arena.stream.handle,
    }


def test_memory_that_is_gone_is_not_handed_out(cuda: FakeCuda, arena: Arena) -> None:
    array = _array(cuda, arena, _VALUES)
    arena.close()
    for read in (array.numpy, array.__dlpack__, lambda: array.__cuda_array_interface__):
        with pytest.raises(BuildError, match="given back"):
            read()


@pytest.mark.parametrize(
    ("dtype", "code", "bits"),
    [("float32", 2, 32), ("float16", 2, 16), ("int64", 0, 64), ("int32", 0, 32), ("uint8", 1, 8), ("bool", 6, 8)],
)
def test_fields_of_a_capsule(cuda: FakeCuda, arena: Arena, dtype: str, code: int, bits: int) -> None:
    array = _array(cuda, arena, np.zeros((2, 3), dtype))
    capsule = array.__dlpack__()
    tensor = dlpack.Managed.from_address(dlpack._pointer(capsule, b"dltensor")).tensor
    assert tensor.data == array.ptr
    assert (tensor.device.type, tensor.device.id) == (2, 0) == array.__dlpack_device__()
    assert (tensor.dtype.code, tensor.dtype.bits, tensor.dtype.lanes) == (code, bits, 1)
    assert (tensor.ndim, tensor.shape[0], tensor.shape[1], tensor.byte_offset) == (2, 2, 3, 0)
    assert not tensor.strides
    foreign = dlpack.foreign_from_capsule(capsule)
    assert foreign == (array.ptr, (2, 3), dtype, True, 0)


def test_a_consumer_keeps_the_memory_until_it_calls_the_deleter(cuda: FakeCuda, arena: Arena) -> None:
    array = _array(cuda, arena, _VALUES)
    capsule = array.__dlpack__()
    managed = dlpack.Managed.from_address(dlpack._pointer(capsule, b"dltensor"))
    address = ctypes.addressof(managed)
    rename = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.py_object, ctypes.c_char_p)(("PyCapsule_SetName", ctypes.pythonapi))
    name = ctypes.c_char_p(b"used_dltensor")
    rename(capsule, name)
    del capsule, array
    arena.close()
    assert cuda.device_bytes == _VALUES.nbytes
    managed.deleter(address)
    assert cuda.device_bytes == 0
    assert dlpack._given == {}


def test_a_capsule_nobody_took_lets_go(cuda: FakeCuda, arena: Arena) -> None:
    array = _array(cuda, arena, _VALUES)
    capsule = array.__dlpack__()
    assert len(dlpack._given) == 1
    del capsule
    assert dlpack._given == {}
    arena.close()
    assert cuda.device_bytes == 0


@pytest.mark.parametrize(("stream", "ordered"), [(None, 0), (1, 0), (-1, 0), (2, 1)])
def test_a_consumers_stream_waits(cuda: FakeCuda, arena: Arena, stream: int | None, ordered: int) -> None:
    _array(cuda, arena, _VALUES).__dlpack__(stream=stream)
    assert cuda.calls["cudaStreamWaitEvent"] == ordered


@pytest.mark.parametrize("asked", [{"copy": True}, {"dl_device": (1, 0)}, {"dl_device": (2, 1)}])
def test_what_dlpack_cannot_have(cuda: FakeCuda, arena: Arena, asked: dict[str, Any]) -> None:
    with pytest.raises(BufferError):
        _array(cuda, arena, _VALUES).__dlpack__(**asked)
    assert dlpack._given == {}


def test_what_a_consumer_may_ask(cuda: FakeCuda, arena: Arena) -> None:
    assert _array(cuda, arena, _VALUES).__dlpack__(max_version=(1, 0), dl_device=(2, 0), copy=False) is not None


@pytest.mark.parametrize("versioned", [True, False])
def test_a_capsule_of_numpy_is_read(versioned: bool) -> None:
    values = np.arange(12, dtype=np.int32).reshape(3, 4)
    if versioned and np.lib.NumpyVersion(np.__version__) < "2.1.0":
        pytest.skip("this numpy gives no versioned capsules")
    asked: dict[str, Any] = {"max_version": (1, 0)} if versioned else {}
    assert dlpack.foreign_from_capsule(values.__dlpack__(**asked))[:4] == (values.ctypes.data, (3, 4), "int32", True)
    assert not dlpack.foreign_from_capsule(values.T.__dlpack__(**asked)).contiguous


@pytest.mark.parametrize(
    ("shape", "strides", "contiguous"),
    [
        ((2, 3), (3, 1), True),
        ((2, 3), (1, 2), False),
        ((2, 1, 3), (3, 99, 1), True),
        ((0, 3), (7, 7), True),
        ((), (), True),
    ],
)
def test_is_contiguous(shape: tuple[int, ...], strides: tuple[int, ...], contiguous: bool) -> None:
    assert dlpack.is_contiguous(shape, strides, 1) is contiguous
