"""What is refused when a build is planned, before torch is imported."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from autovoice.backends.torch import environment
from autovoice.errors import BuildError
from autovoice.machine.gpus import Gpu
from autovoice.spec import Backend

FP16 = "float16"


@pytest.fixture
def planned(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """planned(gpus, "2.13.0+cpu")(precision, …): what the backend says of that machine and that torch."""

    def machine(gpus: int, version: str = "2.13.0") -> Callable[..., None]:
        found = (Gpu("NVIDIA H200", "9.0", 140 << 30, "GPU-1"),) * gpus
        monkeypatch.setattr("autovoice.machine.gpus.gpus", lambda: found)
        monkeypatch.setattr(environment, "tool_version", lambda name: version)
        return lambda precision, options=None, **session: environment.torch(
            Backend("torch", "autovoice.backends.torch.backend.Torch", (FP16,), options or {}, session), precision
        )

    return machine


def test_without_a_gpu_what_needs_one_is_refused_before_anything_runs(planned: Callable[..., Any]) -> None:
    here = planned(0)
    assert here("float32") is None  # no part of any key
    assert here("float32", compile="default") is None
    for wanted, said in (
        (lambda: here(FP16), "torch runs float16 on a GPU alone, and this is a CPU\n  precision=fp32, or a GPU"),
        (lambda: here("float32", {"device": "cuda"}), "torch sees no CUDA device here"),
        (lambda: here("float32", cuda_graphs=True), "a GPU, and this is a CPU\n  backend.session.cuda_graphs=false"),
        (lambda: here("float32", compile="fast"), "backend.session.compile: 'fast'"),
    ):
        with pytest.raises(BuildError, match=said):
            wanted()


@pytest.mark.parametrize(("version", "gpus"), [("2.13.0", 1), ("2.13.0+cu130", 1), ("2.13.0+rocm7.0", 0)])
def test_where_torch_sees_a_gpu_nothing_is_refused(planned: Callable[..., Any], version: str, gpus: int) -> None:
    assert planned(gpus, version)(FP16, {"device": "auto"}, cuda_graphs=True) is None


@pytest.mark.parametrize(
    ("version", "device"), [("2.13.0+cpu", "auto"), ("2.13.0", "cpu")], ids=["torch for CPUs", "device"]
)
def test_a_gpu_that_torch_does_not_use(planned: Callable[..., Any], version: str, device: str) -> None:
    with pytest.raises(BuildError, match="torch runs float16 on a GPU alone"):
        planned(1, version)(FP16, {"device": device})


def test_planning_imports_no_torch() -> None:
    code = """
import sys
from autovoice.backends.torch import environment
from autovoice.spec import Backend
environment._sees_gpu()
environment.torch(Backend("torch", "", ()), "float32")
sys.exit("torch" in sys.modules or "numpy" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
