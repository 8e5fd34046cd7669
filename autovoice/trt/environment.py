"""What an engine depends on beside its graph: tool version and GPU; asked when a build is planned. Imports no tool."""

from __future__ import annotations

from typing import Any

from autovoice.cuda.device import Gpu, gpus, why_none
from autovoice.errors import BuildError, choices
from autovoice.spec import RUNS_HERE, Backend
from autovoice.trt.options import build_options
from autovoice.trt.versions import RTX, TENSORRT, features, installed

#: compute type → the least compute capability that has it
_LEAST = {"int8": (6, 1), "bfloat16": (8, 0), "tfloat32": (8, 0), "float8": (8, 9)}
#: what TensorRT-RTX builds for
RTX_TARGETS = ("7.5", "8.0", "8.6", "8.9", "12.0", "12.1")


def tensorrt(backend: Backend, precision: str) -> dict[str, Any]:
    """Version, GPU, and whether it can quantize by itself. Raises BuildError for what cannot be built here."""
    build_options(backend.options)
    version = installed(TENSORRT)
    gpu = _gpu("tensorrt builds on the kind of GPU that runs the engine, and there is none here")
    _check_type(precision, [gpu.compute_capability], gpu.name)
    return {
        "tensorrt": str(version),
        "gpu": gpu.name,
        "compute_capability": gpu.compute_capability,
        "implicit_int8": features(TENSORRT, version).implicit_int8,
    }


def tensorrt_rtx(backend: Backend, precision: str) -> dict[str, Any]:
    """Version and the compute capabilities to build for; none named means the GPU that is there."""
    options = build_options(backend.options)
    version = installed(RTX)
    targets = list(options.compute_capabilities)
    if not targets:
        fact = "tensorrt_rtx has no GPU to build for"
        targets = [_gpu(fact, "backend.options.compute_capabilities=['8.9']").compute_capability]
    for target in targets:
        if target not in RTX_TARGETS:
            fix = f"it builds for {choices(RTX_TARGETS)}; for other GPUs backend=tensorrt"
            raise BuildError(f"tensorrt_rtx has no compute capability {target}", fix)
    _check_type(precision, targets, "")
    here = any(g.compute_capability in targets for g in gpus())
    return {"tensorrt_rtx": str(version), "compute_capabilities": targets, RUNS_HERE: here}


_WITHOUT = "backend=tensorrt_rtx makes engines without one, backend=onnxruntime runs anywhere"


def _gpu(fact: str, fix: str = _WITHOUT) -> Gpu:
    found = gpus()
    if not found:
        raise BuildError(f"{fact}: {why_none()}", fix)
    return found[0]


def _check_type(precision: str, targets: list[str], gpu: str) -> None:
    least = _LEAST.get(precision, (0, 0))
    for target in targets:
        if tuple(int(n) for n in target.split(".")) < least:
            fact = f"{precision} needs compute capability {least[0]}.{least[1]}, {gpu or 'the target'} has {target}"
            raise BuildError(fact, "precision=fp16, which every GPU here computes")
