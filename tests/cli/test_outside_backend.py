"""A backend that somebody else wrote and installed, which says of its engines no more than it must."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest

from tests.onnx_models import model, node, value

if TYPE_CHECKING:
    from tests.conftest import Project

OUTSIDE = Path(__file__).parents[1] / "outside"
INT8 = ("precision=int8", "calibration=synthetic")
ELSEWHERE = "backend.options.machine=elsewhere"
COMPONENT = {
    "onnx": "weights/head.onnx",
    "inputs": {"x": "x"},
    "outputs": {"y": {"dtype": "float32", "shape": ["n", "length", 64]}},
}
INPUTS = {"x": {"dtype": "float32", "shape": ["n", "length", 256]}}
RUN = """
import numpy as np
from autovoice import Pipeline
from autovoice.errors import MismatchError
try:
    with Pipeline.load({folder!r}) as pipeline:
        print(pipeline.run({{"x": np.zeros((1, 8, 256), np.float32)}})["y"].shape)
except MismatchError as e:
    print(e)
"""


@pytest.fixture(scope="module")
def project(toy_project: Project) -> Project:
    """A matrix product and an activation, on the backend of another distribution."""
    shutil.copytree(OUTSIDE / "evaluator", toy_project.root / "src" / "evaluator")
    shutil.copytree(OUTSIDE / "evaluator-1.0.dist-info", toy_project.root / "src" / "evaluator-1.0.dist-info")
    (toy_project.root / "conf" / "backend").mkdir()
    shutil.copy(OUTSIDE / "evaluator.yaml", toy_project.root / "conf" / "backend")
    weight = np.random.default_rng(0).standard_normal((256, 64), np.float32) / 16
    nodes = [node("MatMul", "x w", "h"), node("Tanh", "h", "y")]
    made = model(nodes, [value("x", "n", "t", 256)], [value("y", "n", "t", 64)], {"w": weight})
    onnx.save(made, toy_project.root / "weights" / "head.onnx")
    found = toy_project.pipeline("outside", {"head": COMPONENT}, INPUTS)
    return replace(found, given=(*found.given, "backend=evaluator"))


def manifest(project: Project, out: str) -> dict[str, Any]:
    data: dict[str, Any] = json.loads((project.root / folder(out) / "manifest.json").read_bytes())
    return data


def folder(out: str) -> str:
    return re.findall(r"(outputs/outside/\S+)/manifest\.json", out)[-1]


def row(out: str) -> str:
    (line,) = re.findall(r"^ (head +(?:fp32|int8) .*)$", out, re.MULTILINE)
    return line


def test_it_builds_what_is_verified_and_loaded_by_its_name(project: Project) -> None:
    out = project.ok()
    assert re.fullmatch(r"head +fp32 +fp32 2/2 nodes +\d\S* kB +(identical|\d\S* dB ≥ 60 +\w+) +\d\S* s", row(out))
    (head,) = manifest(project, out)["components"]
    assert head["file"] == "head.model"
    assert (head["backend"]["name"], head["backend"]["loader"]) == ("evaluator", "evaluator")
    assert head["backend"]["environment"] == {"onnx": onnx.__version__, "machine": "here"}
    assert head["precision"]["delivered"] == {"file": {"float32": 2}}
    assert min(p["y"]["snr_db"] for p in head["parity"].values()) >= 60
    assert project.python(RUN.format(folder=folder(out))) == "(1, 8, 64)\n"
    assert "nothing to do" in project.ok()
    assert "float32 2" in project.ok("task=inspect")


def test_what_it_quantizes_is_counted_and_timed(project: Project) -> None:
    out = project.ok(*INT8)
    assert re.match(r"head +int8 +int8 1/2 nodes +.* \d\S*× fp32 ", row(out))
    (head,) = manifest(project, out)["components"]
    assert head["precision"]["delivered"] == {"file": {"int8": 1, "float32": 1}}
    assert head["race"]["ms"].keys() == {"int8", "fp32"}


def test_the_faster_of_its_engines_is_published(project: Project) -> None:
    """Without kernels of integers, pairs around a product are but more work."""
    out = project.ok(*INT8, "only_if_faster=true")
    assert re.match(r"head +int8 +fp32, faster +.* \d\S*× fp32 ", row(out))
    (head,) = manifest(project, out)["components"]
    assert head["race"]["chosen"] == "fp32"
    assert head["precision"]["delivered"] == {"file": {"float32": 2}}
    assert project.python(RUN.format(folder=folder(out))) == "(1, 8, 64)\n"


def test_an_engine_for_another_machine_is_built_and_refused_by_this_one(project: Project) -> None:
    out = project.ok(ELSEWHERE)
    assert "not run here" in row(out)
    note = " note: engines are for other machines than this one: nothing here can run, measure or gate them"
    assert note in out.splitlines()
    (head,) = manifest(project, out)["components"]
    assert head["parity"] is None
    said = project.python(RUN.format(folder=folder(out)))
    assert re.fullmatch(r".*head\.model: was built for a machine elsewhere\n  build it again here\n", said)
    err = project.fails(ELSEWHERE, *INT8, "only_if_faster=true")
    fact = "only_if_faster: engines of evaluator for another machine than this one cannot be timed here"
    assert f"component.head.{fact}" in err


def test_its_graph_can_be_held_to_the_gates_instead(project: Project) -> None:
    out = project.ok(ELSEWHERE, "+backend.gated_by=onnxruntime")
    assert "onnxruntime ran the graphs that they were made from" in out
    (head,) = manifest(project, out)["components"]
    assert head["parity_of"] == {"of": "graph", "by": "onnxruntime"}


def test_its_options_are_its_own_to_check(project: Project) -> None:
    err = project.fails("+backend.options.speed=3", "task=plan")
    assert err == (
        "error: component.head.backend: backend.options.speed: there is no such option\n"
        "  backend.options.machine=here\n"
    )
