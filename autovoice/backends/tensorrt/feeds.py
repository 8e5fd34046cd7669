"""The feeds of a session, looked at without a copy: arrays of numpy, torch, cupy, DLPack, and its own kind.

A *fingerprint* is what tells two feeds of one type apart as far as a graph is concerned; making it must cost little.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from autovoice.backends.cuda import dlpack
from autovoice.backends.cuda.array import DeviceArray
from autovoice.backends.tensorrt.loaded import LoadedEngine, Spec
from autovoice.errors import FeedError, nearest


class View(NamedTuple):
    """An input: `host` is an array there, or None for what is at `ptr` on `device`, written by `stream`."""

    shape: tuple[int, ...]
    dtype: str
    ptr: int = 0
    host: np.ndarray | None = None
    stream: int | None = None
    device: int | None = None
    contiguous: bool = True


def views_of(feeds: Mapping[str, Any], engine: LoadedEngine, device: int, some: bool = False) -> list[View]:
    """What each input is given, in the engine's order; with `some`, only of those that are given anything.

    Raises FeedError for names and arrays that the engine does not take.
    """
    names = [spec.name for spec in engine.inputs]
    for name in feeds:
        if name not in names:
            raise FeedError(f"{engine.name} has no input '{name}'", nearest(name, names))
    missing = next((name for name in names if name not in feeds), None)
    if missing is not None and not some:
        raise FeedError(f"input '{missing}' is missing", f"the engine takes {', '.join(names)}")
    return [view_of(spec, feeds[spec.name], device) for spec in engine.inputs if spec.name in feeds]


def view_of(spec: Spec, array: Any, device: int) -> View:
    """What `array` is. Raises FeedError for what the engine does not take."""
    view = _looked_at(array)
    if view is None:
        raise FeedError(
            f"input '{spec.name}' is a {type(array).__name__}",
            "give a numpy array, a torch tensor, or anything with __cuda_array_interface__ or __dlpack__",
        )
    if view.dtype != _name(spec.dtype):
        raise FeedError(
            f"input '{spec.name}' is {view.dtype}, the engine takes {spec.dtype.name}",
            f"convert it: {spec.name}.astype('{spec.dtype.name}') in numpy and cupy, "
            f"{spec.name}.to(torch.{spec.dtype.name}) in torch",
        )
    if not view.contiguous:
        raise FeedError(
            f"input '{spec.name}' is on the GPU but not contiguous in memory",
            f"{spec.name}.contiguous() in torch, cupy.ascontiguousarray({spec.name}) in cupy",
        )
    if view.host is None and view.device not in (None, device):
        raise FeedError(f"input '{spec.name}' is on GPU {view.device}, the engine on GPU {device}", "move it there")
    return view


def fingerprint_of(array: Any) -> Callable[[Any], Any]:
    """How to fingerprint arrays of this type; fingerprints of None stand for arrays that are copied every time."""
    if isinstance(array, DeviceArray):
        return _fingerprint_own
    if isinstance(array, np.ndarray) or not (_is_torch(array) or hasattr(array, "__cuda_array_interface__")):
        return _fingerprint_none
    return _fingerprint_torch if _is_torch(array) else _fingerprint_interface


def _fingerprint_own(array: DeviceArray) -> Any:
    return array.key if array.alive else None


def _fingerprint_torch(tensor: Any) -> Any:
    return tensor.data_ptr(), tensor.shape, tensor.dtype, tensor.is_contiguous()


def _fingerprint_none(_: Any) -> None:
    return None


def _fingerprint_interface(array: Any) -> Any:
    interface = array.__cuda_array_interface__
    strides = interface.get("strides")
    shape, strides = tuple(interface["shape"]), strides and tuple(strides)
    return interface["data"][0], shape, interface["typestr"], strides, interface.get("stream")


def _looked_at(array: Any) -> View | None:
    if isinstance(array, DeviceArray):
        array.checked()
        return View(array.shape, _name(array.dtype), array.ptr, stream=array.stream, device=array.device)
    if isinstance(array, np.ndarray | np.generic):
        return _host(np.asarray(array))
    if _is_torch(array):
        return _torch(array)
    if hasattr(array, "__cuda_array_interface__"):
        return _interface(array.__cuda_array_interface__)
    return _dlpack(array) if hasattr(array, "__dlpack__") else None


@cache
def _name(dtype: np.dtype[Any]) -> str:
    """numpy makes the name anew each time it is asked."""
    return dtype.name


def _host(array: np.ndarray) -> View:
    return View(array.shape, _name(array.dtype), host=array)


def _is_torch(array: Any) -> bool:
    return hasattr(array, "data_ptr") and hasattr(array, "is_cuda")


def _torch(tensor: Any) -> View:
    shape, dtype = tuple(tensor.shape), str(tensor.dtype).removeprefix("torch.")
    if tensor.is_cuda:
        index = tensor.device.index
        return View(shape, dtype, tensor.data_ptr(), device=index, contiguous=tensor.is_contiguous())
    if dtype not in np.sctypeDict:  # bfloat16 and the like, which the engine does not take either
        return View(shape, dtype)
    return _host(tensor.detach().numpy())


def _interface(interface: dict[str, Any]) -> View:
    shape, dtype = tuple(interface["shape"]), np.dtype(interface["typestr"])
    strides = interface.get("strides")
    contiguous = strides is None or dlpack.is_contiguous(shape, tuple(strides), dtype.itemsize)
    return View(shape, dtype.name, interface["data"][0], stream=interface.get("stream"), contiguous=contiguous)


def _dlpack(array: Any) -> View | None:
    kind, _ = array.__dlpack_device__()
    if kind in (dlpack.CPU, dlpack.CUDA_HOST):
        return _host(np.from_dlpack(array))
    if kind not in (dlpack.CUDA, dlpack.CUDA_MANAGED):
        return None
    # stream 1: the producer's work is put before the legacy default stream, with which ours is ordered
    foreign = dlpack.foreign_from_capsule(array.__dlpack__(stream=1))
    return View(foreign.shape, foreign.dtype, foreign.ptr, device=foreign.device, contiguous=foreign.contiguous)
