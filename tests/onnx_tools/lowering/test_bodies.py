"""Precisions of graphs with bodies of If and Loop, which capture values and weights of the graph around them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from autovoice.calibration.observe import observe
from autovoice.measure.parity import compare
from autovoice.measure.precision import check_delivered, check_quantized, count_nodes, count_weights
from autovoice.onnx_tools.graph import nodes_within
from autovoice.onnx_tools.lowering.explicit import with_qdq
from autovoice.onnx_tools.lowering.floating import to_bfloat16, to_float16
from autovoice.onnx_tools.lowering.integer import to_u8s8
from autovoice.onnx_tools.lowering.policy import watched_tensors
from autovoice.onnx_tools.ranges import write_ranges
from tests.onnx_models import FLOAT, keep, model, node, saved, value, with_bodies

NOTE = "2 Conv/MatMul inside If and Loop stay in float32"
POLICY = {"op_types": ["MatMul"], "include": [], "exclude": [], "first": True, "last": True}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return saved(with_bodies(np.random.default_rng(0)), tmp_path / "model.onnx")


def feeds(n: int = 16) -> dict[str, np.ndarray]:
    return {"x": np.random.default_rng(1).normal(size=(n, 8)).astype(np.float32)}


def answer(path: Path) -> np.ndarray:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    got: np.ndarray = session.run(None, feeds())[0]
    return got


def test_float16_around_bodies_that_stay_float32(source: Path, tmp_path: Path) -> None:
    summary = to_float16(source, tmp_path / "half.onnx", keep())
    assert summary["notes"] == [NOTE]
    assert 50 < compare(answer(tmp_path / "half.onnx"), answer(source)).snr_db < 90
    check_delivered(tmp_path / "half.onnx", "float16", keep())
    assert count_nodes(tmp_path / "half.onnx", heavy=True) == {"float16": 2, "float32": 2}
    assert count_weights(tmp_path / "half.onnx") == {"float16": 2, "float32": 2}


@pytest.mark.parametrize("kept", [keep(op_types=["If"]), keep(nodes=["*"]), keep(inputs=["x"])], ids=["If", "all", "x"])
def test_what_is_kept_beside_bodies(kept: dict, source: Path, tmp_path: Path) -> None:
    to_float16(source, tmp_path / "half.onnx", kept)
    check_delivered(tmp_path / "half.onnx", "float16", kept, "heavy")
    assert compare(answer(tmp_path / "half.onnx"), answer(source)).snr_db > 50


def test_bfloat16_leaves_what_bodies_read(source: Path, tmp_path: Path) -> None:
    to_bfloat16(source, tmp_path / "brain.onnx", keep())
    made = onnx.load(tmp_path / "brain.onnx")
    onnx.checker.check_model(made, full_check=True)
    assert {t.name for t in made.graph.initializer} >= {"shared", "shared_row", "w1_bf16", "w2_bf16"}


def ranges_of(source: Path, tmp_path: Path) -> dict[str, tuple[float, float]]:
    found = observe(source, watched_tensors(onnx.load(source)), [], [("one", feeds())])
    return {t: (found.low[t], found.high[t]) for t in found.low}


def test_int8_of_what_stands_outside(source: Path, tmp_path: Path) -> None:
    write_ranges(tmp_path / "ranges.json", "model.onnx", 1, "minmax", ranges_of(source, tmp_path))
    summary = to_u8s8(source, tmp_path / "int8.onnx", keep(), POLICY, tmp_path / "ranges.json")
    assert summary == {"quantized": ["n_m", "n_y"], "notes": [NOTE]}
    check_quantized(source, tmp_path / "int8.onnx", "int8", POLICY, keep())
    assert compare(answer(tmp_path / "int8.onnx"), answer(source)).snr_db > 20


@pytest.mark.parametrize("around", ["float32", "float16"])
def test_explicit_pairs_around_bodies(around: str, source: Path, tmp_path: Path) -> None:
    made = with_qdq(onnx.load(source), ["n_m", "n_y"], ranges_of(source, tmp_path), around=around)
    assert compare(answer(saved(made, tmp_path / "pairs.onnx")), answer(source)).snr_db > 20


def test_a_weight_that_a_quantized_node_and_a_body_share(tmp_path: Path) -> None:
    made = with_bodies(np.random.default_rng(0))
    made.graph.node[0].input[1] = "shared"
    source = saved(made, tmp_path / "model.onnx")
    write_ranges(tmp_path / "ranges.json", "model.onnx", 1, "minmax", ranges_of(source, tmp_path))
    to_u8s8(source, tmp_path / "int8.onnx", keep(), POLICY, tmp_path / "ranges.json")
    assert compare(answer(tmp_path / "int8.onnx"), answer(source)).snr_db > 20
    to_float16(source, tmp_path / "half.onnx", keep())
    assert compare(answer(tmp_path / "half.onnx"), answer(source)).snr_db > 50


def test_outputs_that_are_inputs_or_weights_keep_their_values_in_float16(tmp_path: Path) -> None:
    outputs = [value("x", "n", 8), value("y", "n", 8), value("w", 8, 8)]
    w = np.random.default_rng(0).normal(size=(8, 8)).astype(np.float32)
    made = model([node("MatMul", "x w", "y")], [value("x", "n", 8)], outputs, {"w": w})
    to_float16(saved(made, tmp_path / "model.onnx"), tmp_path / "half.onnx", keep())
    session = onnxruntime.InferenceSession(tmp_path / "half.onnx", providers=["CPUExecutionProvider"])
    x, y, weight = session.run(None, feeds())
    np.testing.assert_array_equal(x, feeds()["x"])
    assert [v.dtype for v in (x, y, weight)] == [np.float32] * 3
    np.testing.assert_allclose(weight, w, atol=1e-2)


def test_double_precision_stays_inside_and_outside(tmp_path: Path) -> None:
    double = onnx.TensorProto.DOUBLE
    nodes = [
        node("CumSum", "t axis", "s"),
        node("Cast", "s", "f", to=FLOAT),
        node("MatMul", "f w", "p"),
        node("Cast", "p", "y", to=double),
    ]
    weights = {"w": np.eye(8, dtype=np.float32), "axis": np.array(0)}
    made = model(nodes, [value("t", "n", 8, dtype=double)], [value("y", "n", 8, dtype=double)], weights)
    to_float16(saved(made, tmp_path / "model.onnx"), tmp_path / "half.onnx", keep())
    session = onnxruntime.InferenceSession(tmp_path / "half.onnx", providers=["CPUExecutionProvider"])
    (y,) = session.run(None, {"t": np.full((4, 8), 0.25)})
    np.testing.assert_array_equal(y[:, 0], [0.25, 0.5, 0.75, 1.0])
    assert count_nodes(tmp_path / "half.onnx", heavy=True) == {"float16": 1}


def test_an_operator_that_has_no_float16_stays_float32(tmp_path: Path) -> None:
    nodes = [
        node("MatMul", "x w", "m"),
        node("DynamicQuantizeLinear", "m", "q s z"),
        node("DequantizeLinear", "q s z", "y"),
    ]
    made = model(nodes, [value("x", "n", 8)], [value("y", "n", 8)], {"w": np.eye(8, dtype=np.float32)})
    to_float16(saved(made, tmp_path / "model.onnx"), tmp_path / "half.onnx", keep())
    assert compare(answer(tmp_path / "half.onnx"), answer(tmp_path / "model.onnx")).snr_db > 30
    assert count_nodes(tmp_path / "half.onnx", heavy=True) == {"float16": 1}


def test_names_inside_survive(source: Path, tmp_path: Path) -> None:
    to_float16(source, tmp_path / "half.onnx", keep())
    before, after = (
        {n.op_type for n in nodes_within(onnx.load(p).graph.node)} for p in (source, tmp_path / "half.onnx")
    )
    assert before <= after
