"""A backend whose native code crashes with some options: what is built then, and what every later loader does."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.conftest import Project

#: ONNX Runtime, but for a crash at full optimization, whoever loads an engine so
BRITTLE = """
import os, signal
from autovoice.backends.onnxruntime.backend import OnnxRuntime

class Brittle(OnnxRuntime):
    def _session(self, *arguments):
        if self.level.name == "ORT_ENABLE_ALL":
            os.kill(os.getpid(), signal.SIGSEGV)
        return super()._session(*arguments)
"""
YAML = {
    "name": "brittle",
    "_target_": "brittle.Brittle",
    "environment": "autovoice.backends.onnxruntime.options.environment",
    "types": ["float32"],
    "options": {"graph_optimization_level": "all", "intra_op_num_threads": 1},
    "after_crash": [{"graph_optimization_level": "all"}, {"graph_optimization_level": "basic"}],
}
COMPONENT = {
    "onnx": "weights/limiter.onnx",
    "inputs": {"x": "x"},
    "outputs": {"y": {"dtype": "float32", "shape": ["n", "length"]}},
}
INPUTS = {"x": {"dtype": "float32", "shape": ["n", "length"]}}
RUN = """
import numpy as np
from autovoice import Pipeline
with Pipeline.load("outputs/squashed/brittle-fp32") as pipeline:
    print(pipeline.run({"x": np.zeros((1, 8), np.float32)})["y"].shape)
"""


@pytest.fixture(scope="module")
def project(toy_project: Project) -> Project:
    (toy_project.root / "src" / "brittle.py").write_text(BRITTLE)
    installed = toy_project.root / "src" / "brittle-1.0.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: brittle\nVersion: 1.0\n")
    (installed / "entry_points.txt").write_text("[autovoice.backends]\nbrittle = brittle:Brittle\n")
    (toy_project.root / "conf" / "backend").mkdir(exist_ok=True)
    (toy_project.root / "conf" / "backend" / "brittle.yaml").write_text(json.dumps(YAML))
    made = toy_project.pipeline("squashed", {"limiter": COMPONENT}, INPUTS)
    return replace(made, given=(*made.given, "backend=brittle"))


def manifest(project: Project) -> dict[str, Any]:
    path = project.outputs / "squashed" / "brittle-fp32" / "manifest.json"
    data: dict[str, Any] = json.loads(path.read_bytes())
    return data


def test_a_crash_with_no_way_round_is_told_by_its_signal_and_the_log(project: Project) -> None:
    err = project.fails("backend.after_crash=[]")
    fact, fix, rest = err.splitlines()
    assert fact == "error: limiter.build: its worker process crashed (SIGSEGV)"
    assert fix.startswith("  log: ")
    log = project.root / fix.removeprefix("  log: ")
    assert "Fatal Python error: Segmentation fault" in log.read_text()
    assert "in _session" in log.read_text()
    assert rest.startswith("1 of ")


def test_a_known_way_round_is_taken_told_and_kept_by_all_who_load_the_engine(project: Project) -> None:
    out = project.ok("timed=true")
    way = "built with graph_optimization_level=basic, which goes round it"
    assert f" note: limiter: brittle crashed (SIGSEGV); {way}" in out.splitlines()
    (component,) = manifest(project)["components"]
    assert component["backend"]["options"] == {"graph_optimization_level": "basic", "intra_op_num_threads": 1}
    assert component["backend"]["after_crash"] == "SIGSEGV"
    assert manifest(project)["latency"]["rounds"] > 0
    assert project.python(RUN) == "(1, 8)\n"
    assert "nothing to do" in project.ok("timed=true")
