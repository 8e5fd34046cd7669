"""ONNX files that come quantized, and outputs that are zero, through the command line."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from onnxruntime.quantization import QuantType, quantize_dynamic

from tests.onnx_models import model, node, saved, value

if TYPE_CHECKING:
    from tests.conftest import Project

X = {"x": {"dtype": "float32", "shape": ["n", "length", 8]}}
ENDS = [value("x", "rows", "columns", 8)], [value("y", "rows", "columns", 8)]


def one_file(project: Project, name: str, made: onnx.ModelProto) -> Project:
    """The pipeline of one component, made of this model."""
    saved(made, project.root / "weights" / f"{name}.onnx")
    own = {key: f"${{{key}}}" for key in ("precision", "backend", "calibration", "gate")}
    file = {"onnx": str(project.root / "weights" / f"{name}.onnx"), "inputs": ["x"]}
    outputs = {"outputs": {"y": {"dtype": "float32", "shape": ["n", "length", 8]}}}
    return project.pipeline(name, {name: {**file, **outputs, **own}}, X)


def manifest(project: Project, said: str) -> dict[str, Any]:
    path = re.findall(r"outputs/\S+/manifest\.json", said)[-1]
    data: dict[str, Any] = json.loads((project.root / path).read_bytes())
    return data


@pytest.fixture(scope="module")
def dynamic(toy_project: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    folder: Path = tmp_path_factory.mktemp("dynamic")
    weights = {"w": np.random.default_rng(0).normal(0, 0.3, (8, 8)).astype(np.float32)}
    saved(model([node("MatMul", "x w", "y")], *ENDS, weights), folder / "plain.onnx")
    quantize_dynamic(folder / "plain.onnx", folder / "dynamic.onnx", weight_type=QuantType.QInt8)
    return one_file(toy_project, "dynamic", onnx.load(folder / "dynamic.onnx"))


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_it_is_kept_as_it_is_without_calibration_data(precision: str, dynamic: Project) -> None:
    said = dynamic.ok(f"precision={precision}")
    fact = "dynamic: dynamic.onnx is quantized already (DynamicQuantizeLinear, MatMulInteger), kept as it is"
    assert said.splitlines()[0] == fact + (": int8 rewrites nothing" if precision == "int8" else "")
    assert re.search(rf"\n dynamic +{precision} +as it is: float32 3, int8 1 nodes +\d", said)
    (c,) = manifest(dynamic, said)["components"]
    assert c["precision"]["given"] == ["DynamicQuantizeLinear", "MatMulInteger"]
    assert c["calibration"] is None
    assert all(p["y"]["snr_db"] > 100 for p in c["parity"].values())
    assert "nothing to do" in dynamic.ok(f"precision={precision}")


def test_an_output_that_is_zero_says_so_and_a_wrong_one_would_be_caught(toy_project: Project) -> None:
    """(x + a) - x - a leaves the rounding of x + a, which another a has another of: 1.1 is none in float16."""
    nodes = [node("Add", "x one", "a"), node("Sub", "a x", "b"), node("Sub", "b one", "y")]
    made = model(nodes, *ENDS, {"one": np.full(1, 1.1, np.float32)})
    project = one_file(toy_project, "rest", made)
    said = project.ok("precision=fp16")
    assert re.search(r"\n rest +fp16 .* not meaningful ", said)
    note = " note: rest: snr_db, cosine of 'y' at min, opt, max, between: not meaningful, the reference is zero, or "
    assert f"{note}rounding\n" in said
    (parity,) = {json.dumps(p["y"]["snr_db"]) for p in manifest(project, said)["components"][0]["parity"].values()}
    assert parity == "null"
    err = project.fails("precision=fp16", "gate.component.snr_db.fp16=190")
    assert re.search(r"rest\.verify: snr_db \d+\.\d+ of 'y' at \w+ \[.*\], as error against the largest input", err)
