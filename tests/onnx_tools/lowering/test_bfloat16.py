from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from autovoice.measure.precision import check_delivered
from autovoice.onnx_tools.lowering.bfloat16 import bfloat16_from_float32
from autovoice.onnx_tools.lowering.floating import to_bfloat16
from tests.onnx_models import INT32, keep, model, node, run, saved, two_layers, types_of, value


def rounded(x: np.ndarray) -> np.ndarray:
    """float32 to the nearest bfloat16, ties to even, by the exact definition: 8 bits of mantissa."""
    mantissa, exponent = np.frexp(x.astype(np.float64))
    return np.ldexp(np.rint(mantissa * 256) / 256, exponent).astype(np.float32)


def lowered(made: onnx.ModelProto, folder: Path, **kept: list[str]) -> Path:
    saved(made, folder / "model.onnx")
    to_bfloat16(folder / "model.onnx", folder / "lowered.onnx", keep(**kept))
    return folder / "lowered.onnx"


def test_inputs_weights_and_results_of_a_heavy_node_are_bfloat16(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    w, x = (rng.normal(size=shape).astype(np.float32) for shape in ((8, 1), (5, 8)))
    path = lowered(model([node("MatMul", "x w", "y")], [value("x", 5, 8)], [value("y", 5, 1)], {"w": w}), tmp_path)
    exact = rounded(x).astype(np.float64) @ rounded(w)
    (got,) = run(path, x=x)
    np.testing.assert_array_equal(got, rounded(got))  # nothing between two bfloat16 numbers comes out
    assert np.abs(got - exact).max() <= np.abs(exact).max() * 2.0**-7
    assert np.abs(got - x @ w).max() > 0


@pytest.mark.parametrize(
    ("bits", "expected"),
    [
        pytest.param(0x3F800000, 0x3F80, id="one"),
        pytest.param(0x3F808000, 0x3F80, id="tie_to_even_below"),
        pytest.param(0x3F818000, 0x3F82, id="tie_to_even_above"),
        pytest.param(0x3F808001, 0x3F81, id="above_the_tie"),
        pytest.param(0x3F80FFFF, 0x3F81, id="carry_into_the_mantissa"),
        pytest.param(0x3FFFFFFF, 0x4000, id="carry_into_the_exponent"),
        pytest.param(0xBF818000, 0xBF82, id="negative"),
        pytest.param(0x00000000, 0x0000, id="zero"),
        pytest.param(0x80000000, 0x8000, id="minus_zero"),
    ],
)
def test_weights_are_rounded_to_nearest_even(bits: int, expected: int) -> None:
    w = np.array([[bits]], np.uint32).view(np.float32)
    made = model([node("MatMul", "x w", "y")], [value("x", 1, 1)], [value("y", 1, 1)], {"w": w})
    (stored,) = bfloat16_from_float32(made, set()).graph.initializer
    assert stored.data_type == TensorProto.BFLOAT16
    assert np.frombuffer(stored.raw_data, np.uint16).tolist() == [expected]


def test_only_heavy_nodes_compute_in_it(tmp_path: Path) -> None:
    path = lowered(two_layers(np.random.default_rng(0)), tmp_path)
    types = types_of(path)
    found = {n.output[0]: types[n.output[0]] for n in onnx.load(path).graph.node if n.op_type != "Cast"}
    assert found == {"a_bf16": "BFLOAT16", "b": "FLOAT", "y_bf16": "BFLOAT16"}
    assert (types["x"], types["y"]) == ("FLOAT", "FLOAT")
    check_delivered(path, "bfloat16", keep())


def test_a_kept_node_and_its_weights_stay_float32(tmp_path: Path) -> None:
    path = lowered(two_layers(np.random.default_rng(0)), tmp_path, nodes=["n_a"])
    types = types_of(path)
    assert (types["a"], types["y_bf16"]) == ("FLOAT", "BFLOAT16")
    assert {t.name: types[t.name] for t in onnx.load(path).graph.initializer} == {"w1": "FLOAT", "w2_bf16": "BFLOAT16"}


def test_a_weight_shared_with_a_kept_node_is_stored_twice(tmp_path: Path) -> None:
    nodes = [node("MatMul", "x w", "a"), node("MatMul", "a w", "b"), node("MatMul", "b w", "y")]
    w = np.eye(4, dtype=np.float32) * 1.0009765625
    made = model(nodes, [value("x", 2, 4)], [value("y", 2, 4)], {"w": w})
    path = lowered(made, tmp_path, nodes=["n_a"])
    assert sorted(t.name for t in onnx.load(path).graph.initializer) == ["w", "w_bf16"]
    (got,) = run(path, x=np.ones((2, 4), np.float32))
    np.testing.assert_array_equal(got, np.ones((2, 4), np.float32))  # 1.00098 is 1 in bfloat16


def test_a_value_read_by_others_too_is_left_to_them_in_float32(tmp_path: Path) -> None:
    nodes = [node("Neg", "x", "a"), node("MatMul", "a w", "y"), node("Neg", "a", "z")]
    made = model(nodes, [value("x", 1, 1)], [value("y", 1, 1), value("z", 1, 1)], {"w": np.ones((1, 1), np.float32)})
    y, z = run(lowered(made, tmp_path), x=np.array([[1.001]], np.float32))
    assert (y.item(), z.item()) == (-1.0, np.float32(1.001))


def test_lengths_of_a_recurrent_node_stay_whole_numbers(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    weights = {
        "w": rng.normal(size=(1, 8, 3)).astype(np.float32),
        "r": rng.normal(size=(1, 8, 2)).astype(np.float32),
        "b": np.zeros((1, 16), np.float32),
    }
    nodes = [node("LSTM", "x w r b lengths", "y", hidden_size=2)]
    inputs = [value("x", 4, 1, 3), value("lengths", 1, dtype=INT32)]
    path = lowered(model(nodes, inputs, [value("y", 4, 1, 1, 2)], weights, opset=22), tmp_path)
    onnx.checker.check_model(str(path), full_check=True)
    (lstm,) = (n for n in onnx.load(path).graph.node if n.op_type == "LSTM")
    types = types_of(path)
    assert [types[name] for name in lstm.input] == ["BFLOAT16"] * 4 + ["INT32"]


def test_products_of_whole_numbers_stay_whole_numbers(tmp_path: Path) -> None:
    nodes = [node("MatMul", "n n", "y"), node("MatMul", "x w", "z")]
    inputs = [value("n", 2, 2, dtype=INT32), value("x", 1, 1)]
    outputs = [value("y", 2, 2, dtype=INT32), value("z", 1, 1)]
    path = lowered(model(nodes, inputs, outputs, {"w": np.ones((1, 1), np.float32)}), tmp_path)
    n = np.array([[1, 257], [3, 1000]], np.int32)  # no bfloat16 number
    y, _ = run(path, n=n, x=np.ones((1, 1), np.float32))
    assert y.dtype == np.int32
    np.testing.assert_array_equal(y, n @ n)
