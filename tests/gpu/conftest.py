"""Engines on a real GPU: `tests/gpu/run.sh` runs these on a machine that has one.

The default pipeline is built once, in AUTOVOICE_GPU_OUTPUTS where that is set, so that a second run has little to do.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autovoice.backends.registry import backend_from_target
from autovoice.backends.tensorrt.versions import TENSORRT, imported
from autovoice.errors import AutovoiceError
from autovoice.machine.gpus import gpus, why_none
from autovoice.runtime.pipeline import Pipeline
from autovoice.steps.build import request_from
from autovoice.store.artefacts import Store

HERE = Path(__file__).parent
#: the default profile, 16 … 1024 frames, tuned for 512
HALF = ("backend=tensorrt", "precision=fp16", "dims.frames.opt=512")
Command = Callable[..., str]


def _missing() -> str:
    if not gpus():
        return f"needs an NVIDIA GPU: {why_none()}"
    try:
        imported(TENSORRT)
    except AutovoiceError as e:
        return f"needs TensorRT: {e.fact}"
    return ""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    reason = _missing()
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.gpu)
            item.add_marker(pytest.mark.tensorrt)
            if reason:
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    given = os.environ.get("AUTOVOICE_GPU_OUTPUTS")
    return Path(given) if given else tmp_path_factory.mktemp("outputs")


@dataclass(frozen=True)
class Said:
    """What a command printed, errors among the rest."""

    code: int
    out: str


def said(outputs: Path, *arguments: str) -> Said:
    """One command. What it prints stands in `outputs`/commands.log line by line: a build that is cut off tells too."""
    command = [sys.executable, "-m", "autovoice", f"paths.outputs={outputs}", *arguments]
    lines = []
    outputs.mkdir(parents=True, exist_ok=True)
    with (
        (outputs / "commands.log").open("a") as log,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process,
    ):
        print(f"\n$ autovoice {' '.join(arguments)}", file=log, flush=True)
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line)
            print(line, end="", file=log, flush=True)
    return Said(process.returncode, "".join(lines))


@pytest.fixture(scope="session")
def autovoice(outputs: Path) -> Command:
    """What a command that succeeds prints."""

    def run(*arguments: str) -> str:
        done = said(outputs, *arguments)
        assert done.code == 0, done.out[-5000:]
        return done.out

    return run


@pytest.fixture(scope="session")
def half(outputs: Path, autovoice: Command) -> Path:
    """The folder of the default pipeline in float16."""
    return folder_of(autovoice(*HALF))


@pytest.fixture
def pipeline(half: Path) -> Iterator[Pipeline]:
    with Pipeline.load(half) as loaded:
        yield loaded


def folder_of(out: str) -> Path:
    """Where a build says that it is."""
    return Path(re.findall(r"(\S+)/manifest\.json", out)[-1])


def table_of(out: str) -> str:
    """What a build prints of its components, nothing where it had nothing to do."""
    return out[out.index(" component ") :] if " component " in out else ""


def components(folder: Path) -> dict[str, Any]:
    """The components of a build by name, as its manifest has them."""
    return {c["name"]: c for c in json.loads((folder / "manifest.json").read_bytes())["components"]}


def built_again(outputs: Path, folder: Path, component: str, engine: Path, **options: object) -> None:
    """The engine of a component once more, by other options of its tool, from what the store holds of its build."""
    store = Store(outputs / "store")
    steps = json.loads((folder / "manifest.json").read_bytes())["steps"]
    record = store.record(steps[f"{component}.build"])
    assert record is not None
    fields, needs = record.inputs["fields"], record.inputs["needs"]
    backend = backend_from_target(fields["backend"]["target"], {**fields["backend"]["options"], **options})
    model = store.folder(needs.get("passes", needs["lower"])) / "model.onnx"
    backend.engine_from_onnx(request_from(fields, model, store.folder(needs["lower"]) / "model.onnx", engine))


def flow_feeds(frames: int, batch: int = 1, seed: int = 0) -> dict[str, np.ndarray]:
    """Inputs of the flow decoder."""
    rng = np.random.default_rng(seed)
    return {
        "latent_input": rng.standard_normal((batch, 192, frames), np.float32),
        "mask": np.ones((batch, 1, frames), np.float32),
        "conditioning": rng.standard_normal((batch, 704, frames), np.float32),
    }
