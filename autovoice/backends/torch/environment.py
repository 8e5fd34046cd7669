"""The refusals of the PyTorch backend here, when a build is planned. Imports no torch."""

from __future__ import annotations

from autovoice.backends.torch.backend import Torch
from autovoice.plan.code import tool_version
from autovoice.spec import Backend


def torch(backend: Backend, precision: str) -> None:
    """Nothing: its engines hold on any machine. Raises BuildError for options, and for what needs a GPU without one."""
    made = Torch({**backend.options, **backend.session})
    if made.device == "cuda" or made.graphs or precision == "float16":  # nothing else depends on it
        made.check_device(precision, _sees_gpu())


def _sees_gpu() -> bool:
    """Whether torch will, as far as one can tell without it: by how it was built, and by NVIDIA's driver."""
    from autovoice.machine.gpus import gpus  # ctypes, which no other plan needs

    built_for = tool_version("torch").partition("+")[2]
    return built_for.startswith("rocm") or (built_for != "cpu" and bool(gpus()))
