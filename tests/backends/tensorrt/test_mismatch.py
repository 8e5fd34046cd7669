"""Whether an engine fits the machine, told by its sidecar before the tool sees it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from autovoice.backends.tensorrt import engine_backend as trt
from autovoice.backends.tensorrt.backend import TensorRT
from autovoice.backends.tensorrt.sidecar import write_sidecar
from autovoice.errors import BuildError, MismatchError
from autovoice.machine.gpus import Gpu

SIDECAR = {
    "tool": "tensorrt",
    "version": "10.6.0",
    "gpu": "NVIDIA L4",
    "compute_capability": ["8.9"],
    "hardware_compatible": False,
    "version_compatible": False,
    "inputs": {},
    "outputs": {},
    "profiles": [],
}
L4, H200 = Gpu("NVIDIA L4", "8.9", 24 << 30, "GPU-1"), Gpu("NVIDIA H200", "9.0", 141 << 30, "GPU-2")
L40S = Gpu("NVIDIA L40S", "8.9", 48 << 30, "GPU-3")


@pytest.mark.parametrize(
    ("changes", "version", "found", "fact"),
    [
        ({}, "10.6.0", H200, "was built for compute capability 8.9, NVIDIA H200 has 9.0"),
        ({}, "10.6.0", L40S, "was built on NVIDIA L4, here is NVIDIA L40S"),
        ({}, "10.7.0", L4, "was built by tensorrt 10.6.0, here is 10.7.0"),
        ({}, "10.6.0", None, "needs an NVIDIA GPU, and there is none here: "),
        ({}, None, L4, "tensorrt cannot be imported"),
    ],
    ids=["compute_capability", "gpu", "version", "no_gpu", "no_tool"],
)
def test_what_does_not_fit(
    changes: dict[str, Any],
    version: str | None,
    found: Gpu | None,
    fact: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def imported(tool: Any) -> Any:
        if version is None:
            raise BuildError("tensorrt cannot be imported", "pip install it")
        return SimpleNamespace(__version__=version)

    engine = tmp_path / "a.engine"
    engine.write_bytes(b"plan")
    write_sidecar(engine, SIDECAR | changes)
    monkeypatch.setattr(trt, "imported", imported)
    monkeypatch.setattr(trt, "gpus", lambda: (found,) if found else ())
    with pytest.raises(MismatchError) as caught:
        TensorRT({}).session_from_engine(engine, ())
    assert caught.value.fact.startswith(f"{engine}: {fact}")
    assert str(caught.value).count("\n") == 1
