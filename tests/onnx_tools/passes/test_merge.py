"""Convolutions of one tensor as one: fewer nodes, the same values."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from autovoice.onnx_tools.lowering.explicit import with_qdq
from autovoice.onnx_tools.lowering.floating import halved
from tests.onnx_tools.passes.checks import model, names, node, normal, ops, rewritten, tensor, value

MERGE = "merge_parallel_convs"
WEIGHTS = {"w1": normal(4, 3, 3), "w2": normal(2, 3, 3, seed=1), "b1": normal(4, seed=2), "b2": normal(2, seed=3)}


def pair(
    first: str = "x w1 b1",
    second: str = "x w2 b2",
    one: dict | None = None,
    other: dict | None = None,
    **weights: object,
) -> onnx.ModelProto:
    one = {"pads": [1, 1]} if one is None else one
    nodes = [
        node("Conv", first, "a", **one),
        node("Conv", second, "b", **(one if other is None else other)),
        node("Relu", "a", "y"),
        node("Tanh", "b", "z"),
    ]
    shapes = [value("y", "B", 4, "n"), value("z", "B", 2, "m")]
    return model(nodes, [value("x", "B", 3, "T")], shapes, WEIGHTS | weights)


@pytest.mark.parametrize("second", ["x w2 b2", "x w2"])
@pytest.mark.parametrize("first", ["x w1 b1", "x w1"])
def test_two_become_one(first: str, second: str) -> None:
    merged = rewritten(pair(first, second), MERGE, 1)
    assert names(merged, "Conv") == {"n_a+n_b"}
    assert ops(merged) == {"Conv": 1, "Split": 1, "Relu": 1, "Tanh": 1}
    conv = next(n for n in merged.graph.node if n.op_type == "Conv")
    assert len(conv.input) == (2 if first == "x w1" and second == "x w2" else 3)


def test_defaults_are_the_same_written_out() -> None:
    written = {"pads": [0, 0], "strides": [1], "dilations": [1], "group": 1, "auto_pad": "NOTSET"}
    rewritten(pair(one={}, other=written), MERGE, 1)


def test_what_was_lifted_is_merged_alike() -> None:
    merged = rewritten(pair(), ["lift_conv1d", MERGE], 3)
    assert ops(merged) == {"Unsqueeze": 1, "Conv": 1, "Split": 1, "Relu": 1, "Tanh": 1, "Squeeze": 2}


def test_outputs_keep_their_names() -> None:
    nodes = [node("Conv", "x w1", "a"), node("Conv", "x w2", "b"), node("Relu", "a", "y")]
    outputs = [value(n, "B", c, "n") for n, c in (("a", 4), ("b", 2), ("y", 4))]
    rewritten(model(nodes, [value("x", "B", 3, "T")], outputs, WEIGHTS), MERGE, 1)


@pytest.mark.parametrize("axis", [1, -2])
def test_parts_of_parts_are_parts_of_the_whole(axis: int) -> None:
    nodes = [
        node("Conv", "x w1", "a"),
        node("Conv", "x w3", "b"),
        node("Split", "a", "a1 a2", axis=axis, num_outputs=2),
        node("Split", "b sizes", "b1 b2", axis=axis),
        node("Mul", "a1 a2", "y"),
        node("Concat", "b2 b1", "z", axis=1),
    ]
    weights = {"w1": normal(4, 3, 3), "w3": normal(5, 3, 3, seed=1), "sizes": np.array([1, 4], np.int64)}
    outputs = [value("y", "B", 2, "n"), value("z", "B", 5, "n")]
    merged = rewritten(model(nodes, [value("x", "B", 3, "T")], outputs, weights), MERGE, 1)
    assert ops(merged) == {"Conv": 1, "Split": 1, "Mul": 1, "Concat": 1}


def test_a_split_of_what_is_an_output_too_stays() -> None:
    nodes = [
        node("Conv", "x w1", "a"),
        node("Conv", "x w2", "b"),
        node("Split", "a", "a1 a2", axis=1, num_outputs=2),
        node("Mul", "a1 a2", "y"),
    ]
    outputs = [value("y", "B", 2, "n"), value("a", "B", 4, "n"), value("b", "B", 2, "n")]
    assert ops(rewritten(model(nodes, [value("x", "B", 3, "T")], outputs, WEIGHTS), MERGE, 1))["Split"] == 2


def test_uneven_parts() -> None:
    nodes = [
        node("Conv", "x w1", "a"),
        node("Conv", "x w3", "b"),
        node("Split", "b", "b1 b2", axis=1, num_outputs=2),
        node("Concat", "b2 a b1", "y", axis=1),
    ]
    made = model(
        nodes,
        [value("x", "B", 3, "T")],
        [value("y", "B", 9, "n")],
        {"w1": WEIGHTS["w1"], "w3": normal(5, 3, 3, seed=1)},
    )
    assert ops(rewritten(made, MERGE, 1)) == {"Conv": 1, "Split": 1, "Concat": 1}


def test_a_split_along_time_stays() -> None:
    nodes = [
        node("Conv", "x w1", "a"),
        node("Conv", "x w2", "b"),
        node("Split", "a", "a1 a2", axis=2, num_outputs=2),
        node("Relu", "b", "z"),
    ]
    outputs = [value("a1", "B", 4, "n"), value("a2", "B", 4, "m"), value("z", "B", 2, "k")]
    assert ops(rewritten(model(nodes, [value("x", "B", 3, "T")], outputs, WEIGHTS), MERGE, 1))["Split"] == 2


def test_three_groups_and_one_alone() -> None:
    kinds = [{"pads": [1, 1]}, {"dilations": [2]}, {"pads": [1, 1]}, {"dilations": [2]}, {"strides": [2]}]
    nodes = [node("Conv", "x w1", f"y{i}", **kind) for i, kind in enumerate(kinds)]
    outputs = [value(f"y{i}", "B", 4, f"n{i}") for i in range(5)]
    merged = rewritten(model(nodes, [value("x", "B", 3, "T")], outputs, WEIGHTS), MERGE, 2)
    assert names(merged, "Conv") == {"n_y0+n_y2", "n_y1+n_y3", "n_y4"}


def test_float16() -> None:
    merged = rewritten(halved(pair(), []), MERGE, 1, within=1e-3)
    assert merged.graph.initializer[0].data_type == onnx.TensorProto.FLOAT16


@pytest.mark.parametrize("around", ["float32", "float16"])
@pytest.mark.parametrize("dtype", ["int8", "float8"])
def test_quantized(dtype: str, around: str) -> None:
    made = with_qdq(pair("x w1 b1", "x w2"), ["n_a", "n_b"], {"x": (-3.0, 3.0)}, dtype, around)
    merged = rewritten(made, MERGE, 1, within=1e-6 if around == "float32" else 1e-3)
    assert ops(merged)["Conv"] == 1
    assert ops(merged)["DequantizeLinear"] == 2  # of what is read, and of the weights
    weight = next(t for t in merged.graph.initializer if t.name == "n_a+n_b.weight")
    assert weight.data_type == (onnx.TensorProto.INT8 if dtype == "int8" else onnx.TensorProto.FLOAT8E4M3FN)
    assert tensor(merged, "n_a+n_b.weight_scale").shape == (6,)


def quantized_twice(second_scale: float, **changes: object) -> onnx.ModelProto:
    """Two convolutions, each behind a pair of its own."""
    nodes = [
        node("QuantizeLinear", "x s1 zero", "q1"),
        node("DequantizeLinear", "q1 s1 zero", "d1"),
        node("QuantizeLinear", "x s2 zero", "q2"),
        node("DequantizeLinear", "q2 s2 zero", "d2"),
        node("DequantizeLinear", "i1 scales1 zeros", "v1", axis=0),
        node("DequantizeLinear", "i2 scale2 zero", "v2"),
        node("Conv", "d1 v1", "y"),
        node("Conv", "d2 v2", "z"),
    ]
    rng = np.random.default_rng(0)
    weights = {
        "s1": np.float32(0.02),
        "s2": np.float32(second_scale),
        "zero": np.int8(0),
        "zeros": np.zeros(4, np.int8),
        "i1": rng.integers(-127, 127, (4, 3, 3)).astype(np.int8),
        "i2": rng.integers(-127, 127, (2, 3, 3)).astype(np.int8),
        "scales1": rng.random(4).astype(np.float32) + np.float32(0.01),
        "scale2": np.float32(0.03),
    }
    outputs = [value("y", "B", 4, "n"), value("z", "B", 2, "n")]
    return model(nodes, [value("x", "B", 3, "T")], outputs, weights | changes, 19)


def test_equal_pairs_are_one_tensor_and_one_scale_becomes_many() -> None:
    merged = rewritten(quantized_twice(0.02), MERGE, 1)
    assert ops(merged) == {"QuantizeLinear": 1, "DequantizeLinear": 2, "Conv": 1, "Split": 1}


def test_scales_of_blocks_stay_apart() -> None:
    made = quantized_twice(0.02, scales1=np.full((2, 3, 3), 0.1, np.float32), zeros=np.zeros((2, 3, 3), np.int8))
    made.opset_import[0].version = 21
    next(n for n in made.graph.node if n.name == "n_v1").attribute.append(onnx.helper.make_attribute("block_size", 2))
    rewritten(made, MERGE, 0)


def test_pairs_of_different_scales_are_two_tensors() -> None:
    rewritten(quantized_twice(0.03), MERGE, 0)


@pytest.mark.parametrize(
    "made",
    [
        pytest.param(pair(second="x w2 b2", other={"pads": [0, 2]}), id="pads"),
        pytest.param(pair(other={"pads": [1, 1], "strides": [2]}), id="strides"),
        pytest.param(pair(other={"pads": [2, 2], "dilations": [2]}), id="dilations"),
        pytest.param(pair(one={"auto_pad": "VALID"}, other={"auto_pad": "SAME_UPPER"}), id="auto_pad"),
        pytest.param(pair(w2=normal(2, 3, 1)), id="kernel"),
    ],
)
def test_what_differs_stays_apart(made: onnx.ModelProto) -> None:
    rewritten(made, MERGE, 0)


def test_groups_stay_apart() -> None:
    nodes = [node("Conv", "x w", "y", group=3), node("Conv", "x w", "z", group=3)]
    outputs = [value("y", "B", 3, "n"), value("z", "B", 3, "n")]
    rewritten(model(nodes, [value("x", "B", 3, "T")], outputs, {"w": normal(3, 1, 3)}), MERGE, 0)


def test_different_tensors_and_weights_from_outside_stay_apart() -> None:
    nodes = [node("Conv", "x w1", "y"), node("Conv", "r w1", "z"), node("Relu", "x", "r"), node("Conv", "x v", "u")]
    inputs = [value("x", "B", 3, "T"), value("v", 4, 3, 3)]
    made = model(nodes[2:3] + nodes[:2] + nodes[3:], inputs, [value(n, "B", 4, "n") for n in "yzu"], WEIGHTS)
    rewritten(made, MERGE, 0)
