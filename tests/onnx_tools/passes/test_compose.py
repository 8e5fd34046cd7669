"""1x1 convolutions folded into those before them."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

from autovoice.onnx_tools.lowering.explicit import with_qdq
from autovoice.onnx_tools.lowering.floating import halved
from tests.onnx_tools.passes.checks import model, names, node, normal, ops, rewritten, value

COMPOSE = "compose_convs"
W: dict[str, Any] = {
    "w1": normal(6, 4, 3, seed=1),
    "b1": normal(6, seed=2),
    "w2": normal(10, 4, 3, seed=3),
    "b2": normal(10, seed=4),
    "p": normal(3, 6, 1, seed=5),
    "pb": normal(3, seed=6),
    "tall": normal(6, 1, seed=7),
    "scalar": np.float32(0.3),
    "more": normal(7, 6, 1, seed=8),
    "k3": normal(3, 6, 3, seed=9),
    "grouped": normal(6, 2, 3, seed=10),
    "in_groups": normal(6, 1, 1, seed=11),
    "sizes": np.array([4, 6], np.int64),
}


def graph(nodes: list[onnx.NodeProto], channels: int = 3, more: dict[str, int] | None = None) -> onnx.ModelProto:
    read = {name for n in nodes for name in n.input}
    inputs = [value("x", "B", 4, "T"), value("z", "B", 4, "T"), value("mask", "B", 1, "m")]
    outputs = [value(name, "B", c, f"n_{name}") for name, c in {"y": channels, **(more or {})}.items()]
    return model(nodes, inputs, outputs, {k: v for k, v in W.items() if k in read})


SIZES = [{"B": 1, "T": 16, "m": 14}, {"B": 2, "T": 31, "m": 29}]


def check(made: onnx.ModelProto, expected: int, within: float = 2e-6) -> onnx.ModelProto:
    return rewritten(made, COMPOSE, expected, within, SIZES)


@pytest.mark.parametrize("second", ["c p", "c p pb"])
@pytest.mark.parametrize("first", ["x w1", "x w1 b1"])
def test_directly_behind(first: str, second: str) -> None:
    composed = check(graph([node("Conv", first, "c"), node("Conv", second, "y")]), 1)
    assert ops(composed) == {"Conv": 1}
    assert names(composed, "Conv") == {"n_c+n_y"}


def test_a_chain() -> None:
    w = {"a": normal(6, 4, 1), "b": normal(5, 6, 1, seed=1), "c": normal(2, 5, 1, seed=2)}
    nodes = [node("Conv", "x a", "i"), node("Conv", "i b", "j"), node("Conv", "j c", "y")]
    made = model(nodes, [value("x", "B", 4, "T")], [value("y", "B", 2, "T")], w)
    assert ops(check(made, 2)) == {"Conv": 1}


@pytest.mark.parametrize("post", ["masked p", "masked p pb"])
def test_a_masked_sum_of_skips(post: str) -> None:
    """The end of a WaveNet: parts of convolutions, a whole one, a mask, then the last convolution."""
    nodes = [
        node("Conv", "x w2 b2", "first"),
        node("Split", "first sizes", "residual skip", axis=1),
        node("Conv", "z w1 b1", "last"),
        node("Add", "skip last", "sum"),
        node("Mul", "mask sum", "masked"),
        node("Conv", post, "shift"),
        node("Mul", "shift mask", "y"),
    ]
    composed = check(graph(nodes, more={"residual": 4}), 1)
    assert ops(composed) == {"Conv": 2, "Split": 1, "Add": 1 + ("pb" in post), "Mul": 2}
    assert names(composed, "Conv") == {"n_first", "n_last+n_shift"}


def test_a_difference() -> None:
    nodes = [
        node("Conv", "x w1 b1", "a"),
        node("Conv", "z w1", "b"),
        node("Sub", "a b", "c"),
        node("Mul", "c scalar", "d"),
        node("Conv", "d p pb", "y"),
    ]
    assert ops(check(graph(nodes), 1)) == {"Conv": 2, "Sub": 1, "Mul": 1, "Add": 1}
    nodes[3:] = [node("Conv", "c p pb", "y")]
    assert ops(check(graph(nodes), 1)) == {"Conv": 2, "Sub": 1}


def test_a_bias_is_not_subtracted() -> None:
    nodes = [
        node("Conv", "x w1 b1", "a"),
        node("Mul", "a scalar", "m"),
        node("Conv", "z w1", "b"),
        node("Sub", "m b", "c"),
        node("Conv", "c p pb", "y"),
    ]
    assert ops(check(graph(nodes), 1)) == {"Conv": 2, "Sub": 1, "Mul": 1, "Add": 1}


def test_once_lifted() -> None:
    made = graph([node("Conv", "x w1 b1", "c"), node("Mul", "c mask", "d"), node("Conv", "d p pb", "y")])
    composed = rewritten(made, ["lift_conv1d", COMPOSE], 3, 2e-6, SIZES)
    assert ops(composed)["Conv"] == 1


def test_float16() -> None:
    made = halved(graph([node("Conv", "x w1 b1", "c"), node("Conv", "c p pb", "y")]), [])
    composed = check(made, 1, 5e-3)
    assert {t.data_type for t in composed.graph.initializer} == {onnx.TensorProto.FLOAT16}


def test_quantized_weights_stay() -> None:
    made = graph([node("Conv", "x w1 b1", "c"), node("Conv", "c p pb", "y")])
    for chosen in (["n_c"], ["n_y"], ["n_c", "n_y"]):
        check(with_qdq(made, chosen, {"x": (-3.0, 3.0), "c": (-3.0, 3.0)}), 0)


def test_a_weight_that_others_read_is_copied() -> None:
    nodes = [
        node("Conv", "x w1 b1", "c"),
        node("Conv", "c p", "d"),
        node("Conv", "z w1 b1", "e"),
        node("Tanh", "e", "f"),
        node("Conv", "f p", "g"),
        node("Add", "d g", "y"),
    ]
    assert ops(check(graph(nodes), 1))["Conv"] == 3


@pytest.mark.parametrize(
    "nodes",
    [
        pytest.param([node("Conv", "x w1", "c"), node("Relu", "c", "d"), node("Conv", "d p", "y")], id="an activation"),
        pytest.param([node("Conv", "x w1", "c"), node("Mul", "c tall", "d"), node("Conv", "d p", "y")], id="channels"),
        pytest.param([node("Conv", "x w1", "c"), node("Add", "c tall", "d"), node("Conv", "d p", "y")], id="constant"),
        pytest.param([node("Conv", "x w1", "c"), node("Conv", "c k3", "y")], id="longer kernel"),
        pytest.param([node("Conv", "x w1", "c"), node("Conv", "c p", "y", strides=[2])], id="strides"),
        pytest.param([node("Conv", "x w1", "c"), node("Conv", "c p pb", "y", pads=[1, 1])], id="pads"),
        pytest.param([node("Conv", "x grouped", "c", group=2), node("Conv", "c p", "y")], id="groups before"),
        pytest.param([node("Conv", "x w1", "c"), node("Add", "c c", "d"), node("Conv", "d p", "y")], id="read twice"),
    ],
)
def test_what_is_left_alone(nodes: list[onnx.NodeProto]) -> None:
    check(graph(nodes), 0)


def test_groups_behind_and_more_channels_are_left_alone() -> None:
    check(graph([node("Conv", "x w1", "c"), node("Conv", "c in_groups", "y", group=6)], 6), 0)
    check(graph([node("Conv", "x w1", "c"), node("Conv", "c more", "y")], 7), 0)


def test_what_others_read_is_left_alone() -> None:
    nodes = [node("Conv", "x w1", "c"), node("Conv", "c p", "y")]
    check(graph(nodes, more={"c": 6}), 0)
    check(graph([*nodes, node("Tanh", "c", "t")], more={"t": 6}), 0)


def test_two_parts_of_one_are_left_alone() -> None:
    nodes = [
        node("Conv", "x wide", "c"),
        node("Split", "c", "a b", axis=1, num_outputs=2),
        node("Add", "a b", "d"),
        node("Conv", "d p", "y"),
    ]
    made = model(nodes, [value("x", "B", 4, "T")], [value("y", "B", 3, "T")], {"wide": normal(12, 4, 1), "p": W["p"]})
    check(made, 0)
