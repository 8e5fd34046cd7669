"""Reversals of channels, folded into weights: none left where all can be, one where one must stay."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from autovoice.onnx_tools.lowering.explicit import with_qdq
from autovoice.onnx_tools.lowering.floating import halved
from tests.onnx_tools.passes.checks import model, node, normal, ops, rewritten, value

FOLD = "fold_channel_flips"
FLIP = {
    "minus": np.array([-1], np.int64),
    "least": np.array([np.iinfo(np.int64).min], np.int64),
    "first": np.array([1], np.int64),
    "order": np.arange(6)[::-1].copy(),
}
W = FLIP | {
    "w": normal(6, 6, 3),
    "v": normal(6, 6, 1, seed=1),
    "b": normal(6, seed=2),
    "up": normal(6, 6, 4, seed=3),
    "deep": normal(6, 1, 3, seed=4),
    "grouped": normal(6, 3, 3, seed=5),
    "tall": normal(6, 1, seed=6),
    "wide": normal(9, 6, 1, seed=7),
    "narrow": normal(3, 6, 1, seed=8),
    "half": normal(6, 3, 1, seed=9),
    "scalar": np.float32(0.7),
}


def flip(reads: str, makes: str) -> onnx.NodeProto:
    return node("Slice", f"{reads} minus least first minus", makes)


def graph(
    nodes: list[onnx.NodeProto], channels: int = 6, more: tuple[str, ...] = (), inputs: int = 6
) -> onnx.ModelProto:
    read = {name for n in nodes for name in n.input}
    outputs = [value("y", "B", channels, "n"), *(value(name, "B", 6, f"n_{name}") for name in more)]
    shapes = [value("x", "B", inputs, "T"), value("mask", "B", 1, "T")]
    return model(nodes, shapes, outputs, {k: v for k, v in W.items() if k in read})


def flips(made: onnx.ModelProto) -> int:
    return ops(made)["Slice"] + ops(made)["Gather"]


#: nodes from x to y, and how many reversals can go
FOLDED = {
    "before a convolution": ([flip("x", "a"), node("Conv", "a w b", "y")], 1),
    "behind a convolution": ([node("Conv", "x w b", "a"), flip("a", "y")], 1),
    "between two": ([node("Conv", "x w b", "a"), flip("a", "c"), node("Conv", "c v", "y")], 1),
    "before a transposed one": ([flip("x", "a"), node("ConvTranspose", "a up b", "y", strides=[2])], 1),
    "behind a transposed one": ([node("ConvTranspose", "x up b", "a", strides=[2]), flip("a", "y")], 1),
    "twice": ([flip("x", "a"), flip("a", "c"), node("Tanh", "c", "y")], 2),
    "twice and nothing between": ([flip("x", "a"), flip("a", "y")], 2),
    "by an index": ([node("Gather", "x order", "a", axis=1), node("Conv", "a w", "y")], 1),
    "by an index, axis from behind": ([node("Gather", "x order", "a", axis=-2), node("Conv", "a w", "y")], 1),
    "through depthwise": ([flip("x", "a"), node("Conv", "a deep b", "c", group=6), flip("c", "y")], 2),
    "through groups": ([flip("x", "a"), node("Conv", "a grouped b", "c", group=2), flip("c", "y")], 2),
    "through pointwise nodes": (
        [
            flip("x", "a"),
            node("Mul", "a mask", "c"),
            node("Add", "c tall", "d"),
            node("Mul", "scalar d", "e"),
            node("LeakyRelu", "e", "f"),
            node("Conv", "f w", "y"),
        ],
        1,
    ),
}


@pytest.mark.parametrize("name", FOLDED)
def test_folded(name: str) -> None:
    nodes, n = FOLDED[name]
    made = graph(list(nodes))
    assert flips(made) == n
    folded = rewritten(made, FOLD, n)
    assert flips(folded) == 0
    assert {k.name for k in folded.graph.node if "Conv" in k.op_type} == {
        k.name for k in made.graph.node if "Conv" in k.op_type
    }


@pytest.mark.parametrize("name", FOLDED)
def test_folded_once_lifted(name: str) -> None:
    nodes, n = FOLDED[name]
    made = graph(list(nodes))
    folded = rewritten(made, ["lift_conv1d", FOLD])
    assert flips(folded) == 0 or ("Conv" not in name and n == 2)


@pytest.mark.parametrize("name", FOLDED)
def test_folded_in_float16(name: str) -> None:
    assert flips(rewritten(halved(graph(list(FOLDED[name][0])), []), FOLD, within=4e-3)) == 0


@pytest.mark.parametrize("around", ["float32", "float16"])
@pytest.mark.parametrize("dtype", ["int8", "float8"])
@pytest.mark.parametrize("name", [k for k in FOLDED if "conv" in k or "groups" in k or "index" in k])
def test_folded_quantized(name: str, dtype: str, around: str) -> None:
    made = graph(list(FOLDED[name][0]))
    heavy = [n.name for n in made.graph.node if "Conv" in n.op_type]
    lowered = with_qdq(made, heavy, {t: (-4.0, 4.0) for n in made.graph.node for t in n.input}, dtype, around)
    folded = rewritten(lowered, FOLD, within=1e-6 if around == "float32" else 5e-2)
    assert flips(folded) == 0
    assert ops(folded)["DequantizeLinear"] == ops(lowered)["DequantizeLinear"]


def coupling(i: int, x: str, makes: str) -> list[onnx.NodeProto]:
    """A reversal, then the second half shifted by what a convolution makes of the first."""
    return [
        flip(x, f"f{i}"),
        node("Split", f"f{i}", f"k{i} m{i}", axis=1, num_outputs=2),
        node("Conv", f"k{i} half b", f"h{i}"),
        node("Tanh", f"h{i}", f"t{i}"),
        node("Conv", f"t{i} narrow", f"s{i}"),
        node("Mul", f"s{i} mask", f"q{i}"),
        node("Sub", f"m{i} q{i}", f"d{i}"),
        node("Concat", f"k{i} d{i}", makes, axis=1),
    ]


def test_a_flow_of_even_length_has_none_left() -> None:
    made = graph([*coupling(0, "x", "a"), *coupling(1, "a", "y")])
    assert flips(rewritten(made, FOLD, 2)) == 0


def test_a_flow_of_odd_length_keeps_one_at_its_end() -> None:
    made = graph([*coupling(0, "x", "a"), *coupling(1, "a", "b2"), *coupling(2, "b2", "y")])
    folded = rewritten(made, FOLD, 2)
    assert flips(folded) == 1
    assert folded.graph.node[-1].op_type == "Slice"
    assert list(folded.graph.node[-1].output) == ["y"]


def test_a_result_that_is_added_to_a_reversed_tensor_is_reversed_too() -> None:
    nodes = [flip("x", "a"), node("Conv", "x v b", "c"), node("Add", "a c", "d"), node("Conv", "d v", "y")]
    assert flips(rewritten(graph(nodes), FOLD, 1)) == 0


def test_it_costs_nothing_where_others_read_the_result_too() -> None:
    """The other reader is a convolution, which can take it."""
    nodes = [
        flip("x", "a"),
        node("Conv", "x v b", "c"),
        node("Add", "a c", "d"),
        node("Conv", "c v", "e"),
        node("Add", "d x", "f"),
        node("Mul", "e f", "y"),
    ]
    made = graph(nodes)
    rewritten(made, FOLD, 0)  # x is added as it is: one must stay
    nodes[4] = node("Conv", "d v", "f")
    assert flips(rewritten(graph(nodes), FOLD, 1)) == 0


def test_slices_and_uneven_parts_are_counted_from_the_other_end() -> None:
    w = {"one": np.array([1], np.int64), "four": np.array([4], np.int64), "sizes": np.array([1, 2, 3], np.int64)}
    w |= {"minus5": np.array([-5], np.int64), "far": np.array([99], np.int64)}
    nodes = [
        flip("x", "a"),
        node("Slice", "a one four first", "s"),
        node("Slice", "a minus5 far first", "r"),
        node("Split", "a sizes", "p q u", axis=1),
        node("Concat", "u s p q r", "c", axis=1),
        node("Conv", "c last", "y"),
    ]
    w |= FLIP | {"last": normal(4, 14, 1)}
    made = model(
        nodes, [value("x", "B", 6, "T")], [value("y", "B", 4, "T")], {k: v for k, v in w.items() if k != "order"}
    )
    folded = rewritten(made, FOLD, 1)
    assert not any("minus" in n.input[1] for n in folded.graph.node if n.op_type == "Slice")


def test_transposed_groups() -> None:
    w = FLIP | {"g": normal(6, 2, 3)}
    nodes = [flip("x", "a"), node("ConvTranspose", "a g", "c", group=3), flip("c", "y")]
    made = model(nodes, [value("x", "B", 6, "T")], [value("y", "B", 6, "n")], w)
    assert flips(rewritten(made, FOLD, 2)) == 0


def test_groups_cannot_take_one_side_alone() -> None:
    rewritten(graph([flip("x", "a"), node("Conv", "a grouped b", "y", group=2)]), FOLD, 0)
    rewritten(graph([node("Conv", "x deep b", "a", group=6), flip("a", "y")]), FOLD, 0)


def test_a_weight_that_others_read_is_copied() -> None:
    nodes = [flip("x", "a"), node("Conv", "a v", "c"), node("Conv", "x v", "d"), node("Add", "c d", "y")]
    assert flips(rewritten(graph(nodes), FOLD, 1)) == 0


def test_an_output_that_is_read_inside_stays_as_it_is() -> None:
    nodes = [flip("x", "a"), node("Tanh", "a", "c"), node("Conv", "c v", "y")]
    rewritten(graph(nodes, more=("c",)), FOLD, 0)
    nodes = [flip("x", "a"), node("Conv", "a v", "c"), flip("c", "d"), node("Conv", "d v", "y")]
    assert flips(rewritten(graph(nodes, more=("c", "d")), FOLD, 1)) == 1
    assert flips(rewritten(graph(nodes, more=("a", "d")), FOLD, 1)) == 1


def test_an_output_of_the_same_value_as_an_input() -> None:
    nodes = [flip("x", "a"), flip("a", "c"), flip("c", "d"), node("Conv", "d v", "y")]
    folded = rewritten(graph(nodes, more=("c",)), FOLD, 3)
    assert ops(folded) == {"Identity": 1, "Conv": 1}


def test_outputs_that_are_reversals_of_one_tensor() -> None:
    nodes = [node("Conv", "x v", "c"), flip("c", "y"), flip("c", "z")]
    assert flips(rewritten(graph(nodes, more=("z",)), FOLD, 2)) == 0
    nodes = [node("Conv", "x v", "c"), flip("c", "y"), flip("y", "z"), node("Tanh", "z", "u")]
    assert flips(rewritten(graph(nodes, more=("z", "u")), FOLD, 1)) == 1


def other(reads: str, *bounds: int, axes: tuple[int, ...] = (1,), kept: int = 6) -> onnx.ModelProto:
    n = len(axes)
    w = {k: np.array(v, np.int64) for k, v in zip(("s", "e", "i"), np.reshape(bounds, (3, n)).tolist(), strict=True)}
    w |= {"ax": np.array(axes, np.int64), "w": normal(6, kept, 1)}
    nodes = [node("Slice", f"{reads} s e ax i", "a"), node("Conv", "a w", "y")]
    return model(nodes, [value("x", "B", 6, 16)], [value("y", "B", 6, "n")], w)


@pytest.mark.parametrize(
    "made",
    [
        pytest.param(other("x", -1, -99, -1, axes=(2,)), id="along time"),
        pytest.param(other("x", -1, -6, -1, kept=5), id="all but one"),
        pytest.param(other("x", -2, -99, -1, kept=5), id="from the second"),
        pytest.param(other("x", -1, -99, -2, kept=3), id="every other"),
        pytest.param(other("x", -1, -1, -99, -99, -1, -1, axes=(1, 2)), id="along both"),
    ],
)
def test_what_is_no_reversal_of_channels(made: onnx.ModelProto) -> None:
    rewritten(made, FOLD, 0, sizes=[{"B": 2}])


def test_what_is_not_understood_reads_it_as_it_was() -> None:
    nodes = [flip("x", "a"), node("Softmax", "a", "c", axis=1), node("Conv", "c v", "y")]
    rewritten(graph(nodes), FOLD, 0)
    nodes = [flip("x", "a"), node("Conv", "a v", "c"), node("Transpose", "c", "y", perm=[0, 2, 1])]
    made = model(nodes, [value("x", "B", 6, "T")], [value("y", "B", "T", 6)], FLIP | {"v": W["v"]})
    assert flips(rewritten(made, FOLD, 1)) == 0


def test_several_that_are_not_understood_do_not_make_it_worse() -> None:
    nodes = [
        flip("x", "a"),
        node("Tanh", "a", "c"),
        node("Relu", "a", "d"),
        node("Softmax", "c", "e", axis=1),
        node("Softmax", "d", "f", axis=1),
        node("Add", "e f", "y"),
    ]
    rewritten(graph(nodes), FOLD, 0)


def test_what_cannot_go_stays_beside_what_can() -> None:
    nodes = [
        flip("x", "a"),
        node("Conv", "a v", "c"),
        flip("c", "d"),
        node("Softmax", "c", "e", axis=1),
        node("Softmax", "d", "f", axis=1),
        node("Sub", "e f", "y"),
    ]
    made = rewritten(graph(nodes), FOLD, 1)
    assert [n.output[0] for n in made.graph.node if n.op_type == "Slice"] == ["d"]


def test_an_index_along_time_is_no_reversal_of_channels() -> None:
    nodes = [node("Gather", "x order", "a", axis=2), node("Conv", "a v", "y")]
    made = model(nodes, [value("x", "B", 6, 6)], [value("y", "B", 6, 6)], {"order": W["order"], "v": W["v"]})
    rewritten(made, FOLD, 0)


def test_weights_from_outside() -> None:
    nodes = [flip("x", "a"), node("Conv", "a u", "y")]
    made = model(nodes, [value("x", "B", 6, "T"), value("u", 6, 6, 1)], [value("y", "B", 6, "T")], FLIP)
    rewritten(made, FOLD, 0)


def test_a_quantized_activation_with_a_scale_for_each_channel() -> None:
    w = FLIP | {"s": np.linspace(0.1, 0.6, 6).astype(np.float32), "z": np.zeros(6, np.int8), "v": W["v"]}
    nodes = [
        flip("x", "a"),
        node("QuantizeLinear", "a s z", "q", axis=1),
        node("DequantizeLinear", "q s z", "d", axis=1),
        node("Conv", "d v", "y"),
    ]
    made = model(nodes, [value("x", "B", 6, "T")], [value("y", "B", 6, "T")], w)
    rewritten(made, FOLD, 0)
