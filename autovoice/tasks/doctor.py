"""`task=doctor`: what this machine can build and run, what is missing, and the command that adds it."""

from __future__ import annotations

import ctypes.util
import platform
import shutil
from collections.abc import Iterator
from pathlib import Path

from autovoice.errors import AutovoiceError
from autovoice.invocation import Invocation
from autovoice.sources import tool_version
from autovoice.table import table

_INSTALL = "pip install 'autovoice"
#: distribution → (what it is for, what adds it)
_TOOLS = {
    "torch": ("export, reference", f"{_INSTALL}'"),
    "onnx": ("export, lower", f"{_INSTALL}'"),
    "onnxscript": ("export", f"{_INSTALL}'"),
    "onnxslim": ("export", f"{_INSTALL}'"),
    "onnxruntime": ("build, verify, run, fp16", f"{_INSTALL}'"),
    "soundfile": ("task=convert", f"{_INSTALL}'"),
    "soxr": ("task=convert", f"{_INSTALL}'"),
    "swift-f0": ("task=convert", f"{_INSTALL}'"),
    "transformers": ("component/content_encoder=hubert", f"{_INSTALL}[hubert]'"),
    "hydra-joblib-launcher": ("hydra/launcher=joblib", f"{_INSTALL}[joblib]'"),
    "tensorrt": ("no backend of this version uses it yet", f"{_INSTALL}[tensorrt]'"),
    "tensorrt-rtx-cu13-libs": ("no backend of this version uses it yet", f"{_INSTALL}[tensorrt-rtx]'"),
}


def run(invocation: Invocation) -> int:
    print(f"autovoice {tool_version('autovoice')}, Python {platform.python_version()}, {platform.platform()}")
    rows = [(name, found, what, "" if found else add) for name, found, what, add in _tools()]
    print(table(["tool", "installed", "for", "to add it"], [(n, f or "no", w, a) for n, f, w, a in rows]))
    print()
    print(table(["can", "how"], [*_machine(), *_store(invocation)]))
    return 0


def _tools() -> Iterator[tuple[str, str, str, str]]:
    for name, (what, add) in _TOOLS.items():
        found = tool_version(name)
        yield name, "" if found == "absent" else found, what, add


def _machine() -> Iterator[tuple[str, str]]:
    try:
        import onnxruntime

        yield "backend=onnxruntime", f"providers {', '.join(onnxruntime.get_available_providers())}"
    except ImportError as e:
        yield "backend=onnxruntime", f"no: {e}"
    yield "NVIDIA GPU", _gpu()


def _gpu() -> str:
    """By the driver's own library: it needs no toolkit and no Python package."""
    name = ctypes.util.find_library("cuda")
    if name is None:
        return "no: there is no NVIDIA driver (libcuda) on this machine"
    count = ctypes.c_int(0)
    driver = ctypes.CDLL(name)
    status = driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count))
    return f"no: the driver answers error {status}" if status else f"{count.value} device(s)"


def _store(invocation: Invocation) -> Iterator[tuple[str, str]]:
    try:
        invocation.store.prepare()
    except AutovoiceError as e:
        yield "write the store", f"no: {e.fact}; {e.fix}"
        return
    free = shutil.disk_usage(invocation.store.root).free
    yield "write the store", f"{_relative(invocation.store.root)}, {free / 1e9:.0f} GB free"


def _relative(path: Path) -> str:
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
