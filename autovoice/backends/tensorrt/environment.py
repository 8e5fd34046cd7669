"""The environment of a TensorRT engine: tool version and GPU, asked when a build is planned. Imports no tool."""

from __future__ import annotations

from typing import Any

from autovoice.backends.tensorrt.options import build_options, check_session
from autovoice.backends.tensorrt.versions import RTX, TENSORRT, features, installed
from autovoice.errors import BuildError
from autovoice.machine.gpus import Gpu, gpus, why_none
from autovoice.spec import RUNS_HERE, Backend
from autovoice.terminal.overrides import setting

#: compute type → the least compute capability that has it
_LEAST = {"int8": (6, 1), "bfloat16": (8, 0), "tfloat32": (8, 0), "float8": (8, 9)}
#: what TensorRT-RTX builds for
RTX_TARGETS = ("7.5", "8.0", "8.6", "8.9", "12.0", "12.1")


def tensorrt(backend: Backend, precision: str) -> dict[str, Any]:
    """Version, GPU, and whether it can quantize by itself. Raises BuildError for what cannot be built here."""
    build_options(backend.options)
    check_session(backend.session)
    version = installed(TENSORRT)
    gpu = _gpu("tensorrt builds on the kind of GPU that runs the engine, and there is none here")
    _check_type(precision, [gpu.compute_capability], gpu.name, "precision=fp16, which every GPU here computes")
    return {
        "tensorrt": str(version),
        "gpu": gpu.name,
        "compute_capability": gpu.compute_capability,
        "implicit_int8": features(TENSORRT, version).implicit_int8,
    }


def tensorrt_rtx(backend: Backend, precision: str) -> dict[str, Any]:
    """Version and the compute capabilities to build for; none named means the GPU that is there."""
    options = build_options(backend.options)
    check_session(backend.session)
    version = installed(RTX)
    targets = list(options.compute_capabilities)
    if not targets:
        fact = "tensorrt_rtx has no GPU to build for"
        targets = [_gpu(fact, setting("backend.options.compute_capabilities", ["8.9"])).compute_capability]
    for target in targets:
        if target not in RTX_TARGETS:
            fix = f"{_suggestion(target)}it builds for {', '.join(RTX_TARGETS)}; for other GPUs backend=tensorrt"
            raise BuildError(f"tensorrt_rtx has no compute capability {target}", fix)
    able = [t for t in RTX_TARGETS if _number(t) >= _LEAST.get(precision, (0, 0))]
    fix = f"{setting('backend.options.compute_capabilities', able)} are those that have it; or precision=fp16"
    _check_type(precision, targets, "the target", fix)
    here = any(g.compute_capability in targets for g in gpus())
    return {"tensorrt_rtx": str(version), "compute_capabilities": targets, RUNS_HERE: here}


_WITHOUT = "backend=tensorrt_rtx makes engines without one, backend=onnxruntime runs anywhere"


def _gpu(fact: str, fix: str = _WITHOUT) -> Gpu:
    found = gpus()
    if not found:
        raise BuildError(f"{fact}: {why_none()}", fix)
    return found[0]


def _check_type(precision: str, targets: list[str], gpu: str, fix: str) -> None:
    least = _LEAST.get(precision, (0, 0))
    for target in targets:
        if _number(target) < least:
            raise BuildError(f"{precision} needs compute capability {least[0]}.{least[1]}, {gpu} has {target}", fix)


def _number(capability: str) -> tuple[int, ...]:
    return tuple(int(n) for n in capability.split("."))


def _suggestion(target: str) -> str:
    """What was meant by 89, sm_89 or 12: the same digits in this notation."""
    digits = "".join(c for c in target if c.isdigit())
    found = next((t for t in RTX_TARGETS if t.replace(".", "") in (digits, f"{digits}0")), None)
    return f"did you mean '{found}'? " if found and digits else ""
