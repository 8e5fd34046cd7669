"""DLPack by ctypes: an array given to another library without a copy, and another library's array read.

The layout is that of `dlpack.h`, unversioned (`DLManagedTensor`), which every consumer takes.
"""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from autovoice.backends.cuda.array import DeviceArray

CPU, CUDA, CUDA_HOST, CUDA_MANAGED = 1, 2, 3, 13
_CODES = {"i": 0, "u": 1, "f": 2, "b": 6}
_NAMES = {0: "int", 1: "uint", 2: "float", 4: "bfloat", 6: "bool"}
_NAME, _VERSIONED = b"dltensor", b"dltensor_versioned"


class Device(ctypes.Structure):
    _fields_ = (("type", ctypes.c_int32), ("id", ctypes.c_int32))


class DType(ctypes.Structure):
    _fields_ = (("code", ctypes.c_uint8), ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16))


class Tensor(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device", Device),
        ("ndim", ctypes.c_int32),
        ("dtype", DType),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    )


_Deleter = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


class Managed(ctypes.Structure):
    _fields_ = (("tensor", Tensor), ("context", ctypes.c_void_p), ("deleter", _Deleter))


class Versioned(ctypes.Structure):
    """What a capsule of DLPack 1.x holds."""

    _fields_ = (
        ("major", ctypes.c_uint32),
        ("minor", ctypes.c_uint32),
        ("context", ctypes.c_void_p),
        ("deleter", _Deleter),
        ("flags", ctypes.c_uint64),
        ("tensor", Tensor),
    )


class Foreign(NamedTuple):
    """Another library's array: where it is, and what."""

    ptr: int
    shape: tuple[int, ...]
    dtype: str
    contiguous: bool
    device: int


_api = ctypes.pythonapi
_Destructor = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
_new = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.c_char_p, _Destructor)(("PyCapsule_New", _api))
_pointer = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(("PyCapsule_GetPointer", _api))
_is_valid = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.py_object, ctypes.c_char_p)(("PyCapsule_IsValid", _api))
# in a destructor the capsule has no references left: as an object it would be destroyed once more
_dying_pointer = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p)(("PyCapsule_GetPointer", _api))
_dying_is_valid = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p)(("PyCapsule_IsValid", _api))

#: what has been given away, by the address of its struct, until its consumer calls the deleter
_given: dict[int, tuple[Managed, Any, DeviceArray]] = {}


def capsule_from_array(array: DeviceArray) -> Any:
    """A capsule `dltensor` over the array's memory, which stays until the consumer is done with it."""
    shape = (ctypes.c_int64 * max(len(array.shape), 1))(*array.shape)
    managed = Managed()
    tensor = managed.tensor
    tensor.data = array.ptr
    tensor.device = Device(CUDA, array.device)
    tensor.ndim = len(array.shape)
    tensor.dtype = DType(_CODES[array.dtype.kind], array.dtype.itemsize * 8, 1)
    tensor.shape = ctypes.cast(shape, ctypes.POINTER(ctypes.c_int64))
    managed.deleter = _delete
    address = ctypes.addressof(managed)
    array.hold()
    _given[address] = (managed, shape, array)
    return _new(address, _NAME, _abandon)


def foreign_from_capsule(capsule: Any) -> Foreign:
    """What a capsule describes. It is not consumed: the memory stays as long as the object that gave it."""
    if _is_valid(capsule, _VERSIONED):
        tensor = Versioned.from_address(_pointer(capsule, _VERSIONED)).tensor
    else:
        tensor = Managed.from_address(_pointer(capsule, _NAME)).tensor
    shape = tuple(tensor.shape[i] for i in range(tensor.ndim))
    name = _NAMES.get(tensor.dtype.code, f"dlpack{tensor.dtype.code}-")
    dtype = name if name == "bool" else f"{name}{tensor.dtype.bits * tensor.dtype.lanes}"
    strides = tuple(tensor.strides[i] for i in range(tensor.ndim)) if tensor.strides else None
    contiguous = strides is None or is_contiguous(shape, strides, 1)
    return Foreign((tensor.data or 0) + tensor.byte_offset, shape, dtype, contiguous, tensor.device.id)


def is_contiguous(shape: tuple[int, ...], strides: tuple[int, ...], unit: int) -> bool:
    """True for C order; axes of size 1 may have any stride."""
    for size, stride in zip(reversed(shape), reversed(strides), strict=True):
        if size != 1 and stride != unit:
            return 0 in shape
        unit *= size
    return True


@_Deleter  # type: ignore[untyped-decorator]
def _delete(address: int) -> None:
    given = _given.pop(address, None)
    if given is not None:
        given[2].release()


@_Destructor  # type: ignore[untyped-decorator]
def _abandon(capsule: int) -> None:
    if _dying_is_valid(capsule, _NAME):  # a consumer would have renamed it
        _delete(_dying_pointer(capsule, _NAME))
