"""1-D convolutions as 2-D ones: the values stay, one reshape enters and one leaves each island."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import pytest
from onnx import helper

from autovoice.onnx_tools.lowering.explicit import with_qdq
from autovoice.onnx_tools.lowering.floating import halved
from tests.onnx_tools.passes.checks import INT64, copied, model, names, node, normal, ops, rewritten, tensor, value

LIFT = "lift_conv1d"


def stack() -> onnx.ModelProto:
    """What islands are made of: masks, residuals, gates, a transposed convolution, constants of every rank."""
    w = {
        "w1": normal(8, 6, 3, seed=1),
        "b1": normal(8, seed=2),
        "up": normal(4, 5, 4, seed=3),
        "down": normal(6, 5, 4, seed=4),
        "w3": normal(6, 2, 3, seed=5),
        "per_channel": normal(6, 1, seed=6),
        "whole": normal(1, 6, 1, seed=7),
        "row": normal(1, seed=8),
        "scalar": np.float32(0.5),
    }
    nodes = [
        node("Mul", "x mask", "masked"),
        node("Conv", "masked w1 b1", "c1", pads=[2, 2], dilations=[2]),
        node("Split", "c1", "s g", axis=-2, num_outputs=2),
        node("Tanh", "s", "t"),
        node("Sigmoid", "g", "h"),
        node("Mul", "t h", "gated"),
        node("ConvTranspose", "gated up", "u", strides=[3], pads=[1, 0], output_padding=[1]),
        node("LeakyRelu", "u", "l", alpha=0.1),
        node("Conv", "l down", "d", strides=[3], pads=[1, 1]),
        node("Conv", "x w3", "grouped", group=3, auto_pad="SAME_UPPER"),
        node("Add", "grouped per_channel", "p"),
        node("Mul", "p whole", "q"),
        node("Div", "q row", "r"),
        node("Mul", "r scalar", "z"),
        node("Concat", "d z", "both", axis=-2),
        node("Mul", "both mask", "y"),
    ]
    return model(nodes, [value("x", "B", 6, "T"), value("mask", "B", 1, "T")], [value("y", "B", 12, "T")], w)


def one_conv(*, opset: int = 18, inputs: str = "x w", **attributes: object) -> onnx.ModelProto:
    weights = {"w": normal(4, 3, 3), "b": normal(4, seed=1)}
    made = [node("Conv", inputs, "y", **attributes)]
    return model(made, [value("x", "B", 3, "T")], [value("y", "B", 4, "n")], weights, opset)


def rank_of(made: onnx.ModelProto, op: str) -> set[int]:
    """How many axes the weights of these operators have."""
    known = {v.name: v for v in onnx.shape_inference.infer_shapes(made).graph.value_info}
    ranks = {t.name: len(t.dims) for t in made.graph.initializer}
    ranks |= {name: len(v.type.tensor_type.shape.dim) for name, v in known.items()}
    return {ranks[n.input[1]] for n in made.graph.node if n.op_type == op}


@pytest.mark.parametrize("opset", [18, 19, 21])
def test_an_island_is_lifted_whole(opset: int) -> None:
    made = stack()
    made.opset_import[0].version = opset
    lifted = rewritten(made, LIFT, 4, within=0)
    assert rank_of(lifted, "Conv") == rank_of(lifted, "ConvTranspose") == {4}
    assert ops(lifted) == ops(made) + Counter(Unsqueeze=2, Squeeze=1)
    assert names(lifted, "Conv") == names(made, "Conv")
    assert [n.name for n in lifted.graph.node if n.op_type not in ("Unsqueeze", "Squeeze")] == [
        n.name for n in made.graph.node
    ]


def test_weights_keep_their_names() -> None:
    lifted = rewritten(stack(), LIFT)
    assert {"w1", "b1", "up", "down", "w3", "per_channel", "whole", "row", "scalar"} <= {
        t.name for t in lifted.graph.initializer
    }
    assert tensor(lifted, "w1").shape == (8, 6, 1, 3)
    assert tensor(lifted, "per_channel").shape == (6, 1, 1)
    assert tensor(lifted, "row").shape == (1,)


def test_float16() -> None:
    half = halved(stack(), [])
    lifted = rewritten(half, LIFT, 4, within=0)
    assert ops(lifted) == ops(half) + Counter(Unsqueeze=2, Squeeze=1)


@pytest.mark.parametrize("around", ["float32", "float16"])
@pytest.mark.parametrize("dtype", ["int8", "float8"])
def test_quantized(dtype: str, around: str) -> None:
    ranges = {t: (-6.0, 6.0) for n in stack().graph.node for t in n.input}
    heavy = [n.name for n in stack().graph.node if n.op_type in ("Conv", "ConvTranspose")]
    made = with_qdq(stack(), heavy, ranges, dtype, around)
    lifted = rewritten(made, LIFT, 4, within=0 if around == "float32" else 2e-3)
    assert ops(lifted) == ops(made) + Counter(Unsqueeze=2, Squeeze=1)
    assert rank_of(lifted, "Conv") == rank_of(lifted, "ConvTranspose") == {4}
    assert {t.name for t in made.graph.initializer} <= {t.name for t in lifted.graph.initializer}


@pytest.mark.parametrize(
    "attributes",
    [
        {},
        {"kernel_shape": [3], "pads": [2, 0]},
        {"strides": [2], "dilations": [2]},
        {"auto_pad": "SAME_LOWER"},
        {"auto_pad": "SAME_UPPER", "strides": [2]},
        {"auto_pad": "VALID"},
    ],
    ids=str,
)
def test_a_convolution_alone(attributes) -> None:
    rewritten(one_conv(**attributes), LIFT, 1, within=0)
    rewritten(one_conv(inputs="x w b", **attributes), LIFT, 1, within=0)


@pytest.mark.parametrize(
    "attributes",
    [
        {"strides": [2], "output_padding": [1]},
        {"strides": [3], "pads": [1, 2], "dilations": [2]},
        {"strides": [2], "auto_pad": "SAME_UPPER"},
        {"strides": [2], "output_shape": [40], "kernel_shape": [4]},
        {"group": 2},
    ],
    ids=str,
)
def test_a_transposed_convolution_alone(attributes) -> None:
    w = {"w": normal(4, 3, 4)}
    channels = 3 * attributes.get("group", 1)
    made = model(
        [node("ConvTranspose", "x w", "y", **attributes)],
        [value("x", "B", 4, "T")],
        [value("y", "B", channels, "n")],
        w,
    )
    sizes = [{"B": 2, "T": 20}] if "output_shape" in attributes else [{"B": 2, "T": 9}]
    rewritten(made, LIFT, 1, within=0, sizes=sizes)


@pytest.mark.parametrize(
    ("between", "weights"),
    [
        (lambda: [node("Slice", "c i0 i5 i2", "m")], {"i0": [1], "i5": [9], "i2": [2]}),
        (lambda: [node("Slice", "c i0 i5 i2 i1", "m")], {"i0": [1], "i5": [9], "i2": [-1], "i1": [2]}),
        (lambda: [node("Slice", "c s e", "m")], {"s": [0, 1, 2], "e": [9, 3, 9]}),
        (lambda: [node("Slice", "c s e a", "m")], {"s": [1], "e": [3], "a": [-2]}),
        (lambda: [node("Gather", "c g", "m", axis=2)], {"g": [0, 3, 3]}),
        (lambda: [node("Pad", "c p", "m", mode="reflect")], {"p": [0, 0, 2, 0, 0, 3]}),
        (lambda: [node("Pad", "c p zero a", "m")], {"p": [2, 3], "zero": np.float32(1.5), "a": [-1]}),
        (lambda: [node("Softmax", "c", "m")], {}),
        (lambda: [node("Softmax", "c", "m", axis=1)], {}),
        (lambda: [node("AveragePool", "c", "m", kernel_shape=[3], strides=[2], pads=[1, 1])], {}),
        (lambda: [node("MaxPool", "c", "m", kernel_shape=[3], auto_pad="SAME_UPPER")], {}),
        (lambda: [node("GlobalAveragePool", "c", "m")], {}),
        (lambda: [node("Concat", "c c", "m", axis=2)], {}),
        (lambda: [node("Concat", "c k", "m", axis=0)], {"k": normal(1, 4, 16)}),
        (lambda: [node("Split", "c", "m m2", axis=2, num_outputs=2)], {}),
        (lambda: [node("PRelu", "c slope", "m")], {"slope": normal(4, 1)}),
        (lambda: [node("BatchNormalization", "c v v v one", "m")], {"v": normal(4) ** 2, "one": normal(4) ** 2}),
        (lambda: [node("Sin", "c", "s"), node("Pow", "s two", "q"), node("Add", "c q", "m")], {"two": np.float32(2)}),
        (lambda: [node("Greater", "c k", "o"), node("Where", "o c k", "m")], {"k": normal(4, 1)}),
        (lambda: [node("Clip", "c lo", "m")], {"lo": np.float32(0)}),
        (lambda: [node("Constant", "", "k", value_floats=[1.0]), node("Add", "c k", "m")], {}),
        (
            lambda: [
                node("Constant", "", "k", value=onnx.numpy_helper.from_array(normal(4, 1))),
                node("Add", "c k", "m"),
            ],
            {},
        ),
    ],
)
def test_between_two_convolutions(between, weights) -> None:
    weights = {k: np.array(v, np.int64) if isinstance(v, list) else v for k, v in weights.items()}
    nodes = [node("Conv", "x w1", "c", pads=[1, 1]), *between(), node("Conv", "m w2", "y")]
    channels = 2 if "e" in weights and "i0" not in weights else 4
    weights |= {"w1": normal(4, 3, 3), "w2": normal(5, channels, 1)}
    made = model(nodes, [value("x", "B", 3, 16)], [value("y", "n", 5, "m")], weights)
    lifted = rewritten(made, LIFT, 2, sizes=[{"B": 1}])
    assert ops(lifted)["Unsqueeze"] == ops(lifted)["Squeeze"] == 1


def test_a_weight_that_others_read_is_copied() -> None:
    made = model(
        [node("Conv", "x w", "c"), node("ReduceSum", "w", "s", keepdims=0), node("Mul", "c s", "y")],
        [value("x", "B", 4, "T")],
        [value("y", "B", 4, "n")],
        {"w": normal(4, 4, 3)},
    )
    lifted = rewritten(made, LIFT, 1, within=0)
    assert tensor(lifted, "w").shape == (4, 4, 3)


def test_two_convolutions_share_a_weight() -> None:
    nodes = [node("Conv", "x w", "c", pads=[1, 1]), node("Conv", "c w", "y", pads=[1, 1])]
    made = model(nodes, [value("x", "B", 4, "T")], [value("y", "B", 4, "T")], {"w": normal(4, 4, 3)})
    lifted = rewritten(made, LIFT, 2, within=0)
    assert [tuple(t.dims) for t in lifted.graph.initializer if len(t.dims) > 2] == [(4, 4, 1, 3)]


def test_an_output_that_is_read_inside_leaves_once() -> None:
    nodes = [node("Conv", "x w", "a"), node("Relu", "a", "r"), node("Conv", "r w", "y"), node("Shape", "r", "n")]
    outputs = [value("a", "B", 4, "T"), value("y", "B", 4, "T"), value("n", 3, dtype=INT64)]
    made = model(nodes, [value("x", "B", 4, "T")], outputs, {"w": normal(4, 4, 1)})
    lifted = rewritten(made, LIFT, 2, within=0)
    assert ops(lifted) == ops(made) + Counter(Unsqueeze=1, Squeeze=3)


def test_a_tensor_that_a_branch_reads_leaves() -> None:
    def branch(op: str) -> onnx.GraphProto:
        return helper.make_graph([node(op, "a", "inner")], op, [], [value("inner", "B", 4, "T")])

    nodes = [
        node("Conv", "x w", "a"),
        node("ReduceSum", "x", "s", keepdims=0),
        node("Greater", "s zero", "cond"),
        node("If", "cond", "y", then_branch=branch("Relu"), else_branch=branch("Neg")),
    ]
    made = model(
        nodes, [value("x", "B", 4, "T")], [value("y", "B", 4, "T")], {"w": normal(4, 4, 1), "zero": np.float32(0)}
    )
    assert ops(rewritten(made, LIFT, 1, within=0))["Squeeze"] == 1


def test_what_has_fewer_axes_enters_too() -> None:
    nodes = [
        node("Conv", "x w", "a"),
        node("Add", "a frames", "b"),
        node("Add", "b rows", "c"),
        node("Mul", "c one", "y"),
    ]
    inputs = [value("x", "B", 4, "T"), value("frames", "T"), value("rows", 4, "T"), value("one")]
    made = model(nodes, inputs, [value("y", "B", 4, "T")], {"w": normal(4, 4, 1)})
    assert ops(rewritten(made, LIFT, 1, within=0))["Unsqueeze"] == 2


def test_two_islands() -> None:
    nodes = [
        node("Conv", "x w", "a"),
        node("Transpose", "a", "t", perm=[0, 2, 1]),
        node("LayerNormalization", "t scale", "n"),
        node("Transpose", "n", "u", perm=[0, 2, 1]),
        node("Conv", "u w", "y"),
    ]
    made = model(
        nodes,
        [value("x", "B", 4, "T")],
        [value("y", "B", 4, "T")],
        {"w": normal(4, 4, 1), "scale": np.ones(4, np.float32)},
    )
    assert ops(rewritten(made, LIFT, 2, within=0)) == ops(made) + Counter(Unsqueeze=2, Squeeze=2)


def test_pointwise_nodes_apart_from_convolutions_stay() -> None:
    nodes = [node("Conv", "x w", "a"), node("Relu", "z", "b")]
    inputs, outputs = (
        [value("x", "B", 4, "T"), value("z", "B", 3, "T")],
        [value("a", "B", 4, "T"), value("b", "B", 3, "T")],
    )
    lifted = rewritten(model(nodes, inputs, outputs, {"w": normal(4, 4, 1)}), LIFT, 1, within=0)
    assert next(n for n in lifted.graph.node if n.op_type == "Relu").input[0] == "z"


@pytest.mark.parametrize(
    ("inputs", "weights"),
    [
        ([value("x", "B", 4, "T"), value("w", 4, 4, 3)], {}),
        ([value("x", "B", 4, "T"), value("w", 4, 4, 3)], {"w": normal(4, 4, 3)}),
        ([value("x", "B", 4, 1, "T")], {"w": normal(4, 4, 1, 3)}),
        ([value("x", "B", 4, "T", "T")], {"w": normal(4, 4, 3, 3)}),
    ],
    ids=["weight is an input", "weight has a default", "lifted already", "two axes"],
)
def test_what_is_left_alone(inputs, weights) -> None:
    made = model(
        [node("Conv", "x w", "y")], inputs, [value("y", *"BCTU"[: len(inputs[0].type.tensor_type.shape.dim)])], weights
    )
    rewritten(made, LIFT, 0)


def test_a_graph_inferred_before_is_inferred_anew() -> None:
    made = onnx.shape_inference.infer_shapes(stack())
    assert made.graph.value_info
    before = copied(made)
    lifted = rewritten(before, LIFT, 4, within=0)
    for v in lifted.graph.value_info:
        assert v.name not in {"c1", "gated", "both"}
