"""`cuda.bindings.runtime`, imported when first needed, and the error codes it returns made into errors."""

from __future__ import annotations

import importlib
from functools import cache
from typing import Any

from autovoice.errors import BuildError, first_line

#: codes that mean: no driver, one too old, no device, a driver that is a stub
_ABSENT = {34, 35, 100, 46, 3}
#: codes after which the process's CUDA context answers nothing else
_STICKY = {700, 702, 709, 710, 714, 715, 716, 717, 718, 719, 720}
_INSTALL = "pip install 'autovoice[tensorrt]' (cuda-python), or backend=onnxruntime"
_ELSEWHERE = "choose backend=onnxruntime, or run on a machine with an NVIDIA GPU and its driver"


@cache
def load() -> Any:
    """The runtime module, once a device has answered. Raises BuildError where there is none."""
    try:
        module = importlib.import_module("cuda.bindings.runtime")
    except ImportError as e:
        raise BuildError(f"cuda-python cannot be imported: {first_line(e)}", _INSTALL) from e
    try:
        answer = module.cudaGetDeviceCount()
    except RuntimeError as e:  # DynamicLibNotFoundError, where the bindings open libcuda themselves
        raise BuildError(f"no NVIDIA driver on this machine: {first_line(e)}", _ELSEWHERE) from e
    if int(answer[0]):
        raise _absent(module, answer[0])
    return module


def checked(answer: tuple[Any, ...], doing: str) -> Any:
    """What a runtime call returned behind its status: nothing, the one value, or a tuple. Raises BuildError."""
    if answer[0]:
        raise failure(answer[0], doing)
    values = answer[1:]
    return values[0] if len(values) == 1 else values or None


def failure(status: Any, doing: str) -> BuildError:
    """The error of a status, in CUDA's words."""
    module = load()
    module.cudaGetLastError()  # or the next call of anyone in this thread reports it once more
    if int(status) in _ABSENT:
        return _absent(module, status)
    fix = (
        "the GPU's state is lost for this process: start it again" if int(status) in _STICKY else "see the driver's log"
    )
    return BuildError(f"CUDA, {doing}: {words(module, status)}", fix)


def words(module: Any, status: Any) -> str:
    """`out of memory (cudaErrorMemoryAllocation)`."""
    return f"{_text(module.cudaGetErrorString(status))} ({_text(module.cudaGetErrorName(status))})"


def _absent(module: Any, status: Any) -> BuildError:
    return BuildError(f"no NVIDIA driver or GPU that CUDA can use: {words(module, status)}", _ELSEWHERE)


def _text(answer: tuple[Any, Any]) -> str:
    return answer[1].decode(errors="replace") if answer[1] else f"error {int(answer[0])}"
