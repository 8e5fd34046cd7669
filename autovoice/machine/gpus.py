"""The GPUs of this machine, asked of the driver's own library: no toolkit and no Python package is needed."""

from __future__ import annotations

import ctypes
import ctypes.util
import uuid
from dataclasses import dataclass
from functools import cache
from typing import Any

_MAJOR, _MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_*


@dataclass(frozen=True)
class Gpu:
    """One device: its name, compute capability ("9.0"), memory in bytes, and UUID."""

    name: str
    compute_capability: str
    memory: int
    uuid: str


def gpus() -> tuple[Gpu, ...]:
    """The devices the driver shows to this process, in its order; none where `why_none` has a reason."""
    return _found()[0]


def why_none() -> str:
    """Why there is no GPU, empty where there is one."""
    return _found()[1]


@cache
def _found() -> tuple[tuple[Gpu, ...], str]:
    driver = _driver()
    if driver is None:
        return (), "there is no NVIDIA driver (libcuda) on this machine"
    count = ctypes.c_int(0)
    status = driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count))
    if status:
        return (), f"the NVIDIA driver answers {_words(driver, status)}"
    if not count.value:
        return (), "the NVIDIA driver shows no device to this process"
    try:
        return tuple(_gpu(driver, i) for i in range(count.value)), ""
    except OSError as e:
        return (), str(e)


def _driver() -> Any:
    # find_library asks ldconfig, which a container may not have set up for what it mounts
    for name in (ctypes.util.find_library("cuda"), "libcuda.so.1", "nvcuda.dll"):
        try:
            if name is not None:
                return ctypes.CDLL(name)
        except OSError:
            continue
    return None


def _gpu(driver: Any, index: int) -> Gpu:
    device, memory = ctypes.c_int(0), ctypes.c_size_t(0)
    name, identity = ctypes.create_string_buffer(256), ctypes.create_string_buffer(16)
    _ask(driver, "cuDeviceGet", ctypes.byref(device), index)
    _ask(driver, "cuDeviceGetName", name, len(name), device)
    _ask(driver, "cuDeviceTotalMem_v2", ctypes.byref(memory), device)
    _ask(driver, "cuDeviceGetUuid", identity, device)
    capability = ".".join(str(_attribute(driver, a, device)) for a in (_MAJOR, _MINOR))
    return Gpu(name.value.decode(errors="replace"), capability, memory.value, f"GPU-{uuid.UUID(bytes=identity.raw)}")


def _attribute(driver: Any, attribute: int, device: ctypes.c_int) -> int:
    value = ctypes.c_int(0)
    _ask(driver, "cuDeviceGetAttribute", ctypes.byref(value), attribute, device)
    return value.value


def _ask(driver: Any, call: str, *arguments: Any) -> None:
    status = getattr(driver, call)(*arguments)
    if status:
        raise OSError(f"the NVIDIA driver answers {_words(driver, status)} to {call}")


def _words(driver: Any, status: int) -> str:
    text = ctypes.c_char_p()
    driver.cuGetErrorString(status, ctypes.byref(text))
    return f"error {status}" + (f" ({text.value.decode(errors='replace')})" if text.value else "")
