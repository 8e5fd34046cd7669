"""`task=doctor`: what this machine can build and run, what is missing, and the command that adds it."""

from __future__ import annotations

import platform
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from autovoice.backends.tensorrt.versions import RTX, TENSORRT
from autovoice.command.invocation import Invocation
from autovoice.config.backends import BackendReader
from autovoice.config.reader import Reader
from autovoice.errors import AutovoiceError, ConfigError, first_line
from autovoice.machine.gpus import gpus, why_none
from autovoice.plan.auto import choice_notes, first_fit
from autovoice.plan.code import tool_version
from autovoice.plan.rules.environment import environment
from autovoice.spec import RUNS_HERE
from autovoice.terminal.table import table

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
    "tensorrt": ("backend=tensorrt", f"{_INSTALL}[tensorrt]'"),
    "tensorrt-rtx": ("backend=tensorrt_rtx", f"{_INSTALL}[tensorrt-rtx]'"),
    "cuda-python": ("run TensorRT's engines", f"{_INSTALL}[tensorrt]'"),
}
#: the same thing under another distribution's name
_ALSO = {
    "tensorrt": TENSORRT.distributions,
    "tensorrt-rtx": RTX.distributions,
    "cuda-python": ("cuda-bindings",),
}
#: the backends that say themselves what they need, and which of them is taken
_ASKED = ("tensorrt", "tensorrt_rtx")
_CHOICE = "auto"


def run(invocation: Invocation) -> int:
    print(f"autovoice {tool_version('autovoice')}, Python {platform.python_version()}, {platform.platform()}")
    rows = [(name, found, what, "" if found else add) for name, found, what, add in _tools()]
    print(table(["tool", "installed", "for", "to add it"], [(n, f or "no", w, a) for n, f, w, a in rows]))
    print()
    print(table(["can", "how"], [*_machine(), *_backends(invocation), *_store(invocation)]))
    return 0


def _tools() -> Iterator[tuple[str, str, str, str]]:
    for name, (what, add) in _TOOLS.items():
        found = (tool_version(n) for n in (name, *_ALSO.get(name, ())))
        yield name, next((v for v in found if v != "absent"), ""), what, add


def _machine() -> Iterator[tuple[str, str]]:
    try:
        import onnxruntime

        yield "backend=onnxruntime", f"providers {', '.join(onnxruntime.get_available_providers())}"
    except ImportError as e:
        yield "backend=onnxruntime", f"no: {e}"
    yield "backend=torch", _torch()
    found = gpus()
    if not found:
        yield "NVIDIA GPU", f"no: {why_none()}"
    for gpu in found:
        yield "NVIDIA GPU", f"{gpu.name}, compute capability {gpu.compute_capability}, {gpu.memory / 2**30:.0f} GiB"


def _torch() -> str:
    try:
        import torch
    except (ImportError, OSError) as e:
        return f"no: {first_line(e)}"
    if torch.cuda.is_available():
        return f"on cuda, {torch.cuda.get_device_name()}"
    return f"on the CPU: {'it sees no GPU' if torch.version.cuda else 'this torch was built without CUDA'}"


def _backends(invocation: Invocation) -> Iterator[tuple[str, str]]:
    """What each of them needs of this machine, in its own words, and what the choice among them would be."""
    reader = BackendReader(invocation.data, invocation.lookup)
    for name in _ASKED:
        backend = reader.named("backend", name, "backend", reader.backend)
        try:
            found = environment(backend, "float32") or {}
        except AutovoiceError as e:
            yield f"backend={name}", f"no: {e.fact}"
            continue
        yield f"backend={name}", ", ".join(_stated(k, v) for k, v in found.items())
    order = reader.named("backend", _CHOICE, "backend", reader.backend_or_order)
    precision = reader.choice(Reader({}, "", reader.faults), "precision", reader.precision)
    if reader.faults:
        raise ConfigError(reader.faults)
    yield f"backend={_CHOICE}", choice_notes([first_fit(precision, order)])[0].removeprefix(f"backend {_CHOICE} ")


def _stated(key: str, value: Any) -> str:
    if key == RUNS_HERE:
        return "which this machine has" if value else "for other machines than this one"
    return f"{key} {' '.join(value) if isinstance(value, list) else value}"


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
