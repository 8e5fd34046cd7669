"""ONNX files as their own reference: those that are quantized already, and those that answer at random."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnxruntime.quantization import QuantType, quantize_dynamic

from autovoice.errors import ExportError
from autovoice.measure.points import POINTS, load_point, save_point
from autovoice.onnx_tools.ort import NO_OVERFLOW, float_session
from autovoice.steps.context import Context
from autovoice.steps.reference_onnx import options_for, run
from tests.onnx_models import model, node, saved, value

X, Y = value("x", "n", 8), value("y", "n", 8)
LEVELS = ort.GraphOptimizationLevel


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    weights = {"w": np.random.default_rng(0).normal(0, 0.3, (8, 8)).astype(np.float32)}
    return saved(model([node("MatMul", "x w", "y")], [X], [Y], weights), tmp_path / "plain.onnx")


@pytest.fixture
def dynamic(plain: Path, tmp_path: Path) -> Path:
    path = tmp_path / "dynamic.onnx"
    quantize_dynamic(plain, path, weight_type=QuantType.QInt8)
    return path


def answered(path: Path, tmp_path: Path) -> dict[str, dict[str, np.ndarray]]:
    """What the step writes, by point."""
    inputs, out = tmp_path / "inputs", tmp_path / "out"
    for folder in (inputs, out):
        folder.mkdir()
    for i, point in enumerate(POINTS):
        save_point(inputs, point, {"x": np.random.default_rng(i).normal(0, 1, (i + 1, 8)).astype(np.float32)})
    tensor = {"dtype": "float32", "shape": ["n", 8]}
    fields: dict[str, Any] = {
        "reads": {"x": {"role": "inputs", "wire": "x"}},
        "inputs": {"x": tensor},
        "outputs": {"y": tensor | {"wire": "out"}},
        "output_order": ["y"],
        "formulas": {},
    }
    run(Context(fields, {"inputs": inputs}, {"onnx": path}, out))
    return {p: load_point(out, p) | load_point(inputs, p) for p in POINTS}


def test_a_float_file_runs_as_it_stands(plain: Path) -> None:
    assert options_for(plain).graph_optimization_level == LEVELS.ORT_DISABLE_ALL


def test_a_quantized_file_runs_without_overflow_where_that_works(dynamic: Path) -> None:
    options = options_for(dynamic)
    assert options.graph_optimization_level == LEVELS.ORT_ENABLE_EXTENDED
    assert options.get_session_config_entry(NO_OVERFLOW[0]) == NO_OVERFLOW[1]


def test_a_quantized_file_answers_as_its_engine_does(dynamic: Path, tmp_path: Path) -> None:
    engine = float_session(dynamic)
    for found in answered(dynamic, tmp_path).values():
        assert np.allclose(found["out"], engine.run(None, {"x": found["x"]})[0], atol=1e-6)


def noisy(tmp_path: Path, *nodes: onnx.NodeProto) -> Path:
    return saved(model(list(nodes), [X], [Y], {"zero": np.zeros(1, np.float32)}), tmp_path / "noisy.onnx")


@pytest.mark.parametrize("seed", [{}, {"seed": 1.0}], ids=["any", "seeded"])
def test_a_file_that_answers_at_random_is_refused(seed: dict[str, float], tmp_path: Path) -> None:
    path = noisy(tmp_path, node("RandomNormalLike", "x", "r", "sine/noise", **seed), node("Add", "x r", "y"))
    with pytest.raises(ExportError) as e:
        answered(path, tmp_path)
    assert str(e.value).splitlines() == [
        f"{path}: output 'y' is random (RandomNormalLike 'sine/noise')",
        "  make the noise an input: onnx.utils.extract_model cuts the graph where it is drawn",
    ]


def test_noise_that_reaches_no_output_does_no_harm(tmp_path: Path) -> None:
    path = noisy(
        tmp_path, node("RandomUniformLike", "x", "r"), node("Mul", "r zero", "none"), node("Add", "x none", "y")
    )
    found = answered(path, tmp_path)
    assert all(np.array_equal(f["out"], f["x"]) for f in found.values())
