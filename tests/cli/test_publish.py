"""Real builds published over each other into one folder, beside whoever loads it."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from autovoice import Pipeline

if TYPE_CHECKING:
    from tests.conftest import Project

#: two builds whose ONNX file differs, made once, then published in turn for as long as it lives
PUBLISHER = """
import shutil, sys
from itertools import count
from pathlib import Path
from autovoice.command.builds import build
from autovoice.config.compose import compose
from autovoice.command.invocation import Invocation
from autovoice.publish.folder import publish

def built(file):
    shutil.copyfile(file, "weights/limiter.onnx")
    composed = compose(Path("conf"), ["pipeline=alone"])
    invocation = Invocation(composed.data, composed.overrides, composed.lookup)
    invocation.store.prepare()
    return invocation, build(invocation)

if __name__ == "__main__":
    both = [built(f"weights/{name}.onnx") for name in ("Tanh", "Sigmoid")]
    for i in count():
        invocation, one = both[i % 2]
        written = publish(one.account, invocation.store, invocation.folder, [])
        assert written == ["limiter.onnx", "manifest.json"], written
        print(i, flush=True)
"""
#: what each gives for 0
AT_ZERO = {0.0, 0.5}


@pytest.fixture(scope="module")
def alone(toy_project: Project, limiter: Callable[..., None]) -> Project:
    tensor = {"dtype": "float32", "shape": ["n", "length"]}
    component = {"onnx": "weights/limiter.onnx", "inputs": ["x"], "outputs": {"y": tensor}}
    project = toy_project.pipeline("alone", {"limiter": component}, {"x": tensor})
    for op in ("Tanh", "Sigmoid"):
        limiter(project.root / "weights" / f"{op}.onnx", op)
    (project.root / "publisher.py").write_text(PUBLISHER)
    with publishing(project):  # builds both
        pass
    return project


def folder(project: Project) -> Path:
    return project.outputs / "alone" / "onnxruntime-fp32"


@contextmanager
def publishing(project: Project) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "publisher.py"], cwd=project.root, env=project.environment, text=True, stdout=subprocess.PIPE
    )
    try:
        assert process.stdout
        assert "1\n" in iter(process.stdout.readline, "")
        yield process
    finally:
        process.kill()
        process.communicate()


def test_loads_beside_real_builds(alone: Project) -> None:
    """AUTOVOICE_LOADS=1000 for a campaign: none is refused, each has the engine that its manifest means."""
    seen: dict[str, float] = {}
    with publishing(alone):
        for _ in range(int(os.environ.get("AUTOVOICE_LOADS", "40"))):
            with Pipeline.load(folder(alone)) as pipeline:
                digest = pipeline.manifest["components"][0]["sha256"]
                value = float(pipeline.run({"x": np.zeros((1, 4), np.float32)})["y"][0, 0])
                assert seen.setdefault(digest, value) == value
    assert set(seen.values()) == AT_ZERO


def test_kills_beside_real_builds(alone: Project) -> None:
    """AUTOVOICE_KILLS=50 for a campaign."""
    moment = random.Random(0)
    (folder(alone) / "notes.txt").write_text("mine")
    for _ in range(int(os.environ.get("AUTOVOICE_KILLS", "1"))):
        with publishing(alone) as process:
            time.sleep(moment.uniform(0, 0.05))
            process.send_signal(signal.SIGKILL)
            process.wait()
        Pipeline.load(folder(alone)).close()
    alone.ok()
    assert [p.name for p in folder(alone).parent.iterdir()] == [folder(alone).name]
    assert sorted(p.name for p in folder(alone).iterdir()) == ["limiter.onnx", "manifest.json", "notes.txt"]


def test_a_folder_behind_a_link(alone: Project, tmp_path: Path) -> None:
    """The folder it leads to is replaced, and the link stays."""
    alone.ok()
    shutil.move(folder(alone), tmp_path / "elsewhere")
    folder(alone).symlink_to(tmp_path / "elsewhere")
    (folder(alone) / "limiter.onnx").unlink()
    assert "restored limiter.onnx, manifest.json" in alone.ok()
    assert folder(alone).is_symlink()
    Pipeline.load(folder(alone)).close()
    assert [p.name for p in tmp_path.iterdir()] == ["elsewhere"]
    assert "nothing to do" in alone.ok()


def test_what_is_no_file_is_restored(alone: Project) -> None:
    """Loading refuses these, so a build does not take them for its own, nor waits for them."""
    path = folder(alone) / "limiter.onnx"
    content = path.read_bytes()
    path.with_name("other.onnx").write_bytes(content)
    for make in (os.mkfifo, lambda p: p.symlink_to("other.onnx")):
        path.unlink()
        make(path)
        assert "restored limiter.onnx" in alone.ok()
        assert path.read_bytes() == content
        Pipeline.load(folder(alone)).close()


def test_a_leftover_does_not_stop_gc(alone: Project) -> None:
    left = folder(alone).with_name(f".{folder(alone).name}.0123abcd")
    left.mkdir()
    (left / "manifest.json").write_text("{")
    try:
        assert "would be freed" in alone.ok("task=gc")
    finally:
        shutil.rmtree(left)
