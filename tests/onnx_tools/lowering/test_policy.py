from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

from autovoice.errors import LoweringError
from autovoice.onnx_tools.lowering.policy import chosen_nodes, quantizable, watched_tensors
from tests.onnx_models import INT64, keep, model, node, value

POLICY: dict[str, Any] = {
    "op_types": ["Conv", "MatMul", "Gemm"],
    "include": [],
    "exclude": [],
    "first": True,
    "last": True,
}
ALL = ["n_a", "n_c", "n_d", "n_y"]


def policy(**changes: Any) -> dict[str, Any]:
    return POLICY | changes


@pytest.fixture
def graph() -> onnx.ModelProto:
    """x → Conv → Relu → Conv → ConvTranspose → Conv → y, the weights called as in a module."""
    nodes = [
        node("Conv", "x stem.weight stem.bias", "a"),
        node("Relu", "a", "b"),
        node("Conv", "b blocks.0.weight", "c"),
        node("ConvTranspose", "c up.weight up.bias", "u"),
        node("Conv", "u blocks.1.weight", "d"),
        node("Tanh", "d", "e"),
        node("Conv", "e head.weight", "y"),
    ]
    names = ("stem", "blocks.0", "up", "blocks.1", "head")
    weights = {f"{n}.weight": np.ones((4, 4, 1), np.float32) for n in names}
    weights |= {f"{n}.bias": np.zeros(4, np.float32) for n in ("stem", "up")}
    return model(nodes, [value("x", 1, 4, "n")], [value("y", 1, 4, "n")], weights)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        pytest.param({}, ALL, id="all_of_the_types"),
        pytest.param({"op_types": ["ConvTranspose"]}, ["n_u"], id="another_type"),
        pytest.param({"op_types": ["ConvTranspose", "Conv"]}, ["n_a", "n_c", "n_u", "n_d", "n_y"], id="graph_order"),
        pytest.param({"op_types": []}, [], id="no_type"),
        pytest.param({"include": ["blocks.*"]}, ["n_c", "n_d"], id="include_by_weight"),
        pytest.param({"include": ["n_c"]}, ["n_c"], id="include_by_name"),
        pytest.param({"include": ["stem.bias"]}, ["n_a"], id="include_by_bias"),
        pytest.param({"include": ["n_c", "head.*"]}, ["n_c", "n_y"], id="include_several"),
        pytest.param({"exclude": ["blocks.*"]}, ["n_a", "n_y"], id="exclude_by_weight"),
        pytest.param({"exclude": ["n_[ay]"]}, ["n_c", "n_d"], id="exclude_by_name"),
        pytest.param({"include": ["blocks.*"], "exclude": ["*.1.*"]}, ["n_c"], id="exclude_wins"),
        pytest.param({"first": False}, ["n_c", "n_d", "n_y"], id="not_the_first"),
        pytest.param({"last": False}, ["n_a", "n_c", "n_d"], id="not_the_last"),
        pytest.param({"first": False, "last": False}, ["n_c", "n_d"], id="neither_end"),
        pytest.param({"op_types": ["ConvTranspose"], "first": False}, ["n_u"], id="first_of_all_types"),
    ],
)
def test_chosen(changes: dict[str, Any], expected: list[str], graph: onnx.ModelProto) -> None:
    assert chosen_nodes(graph, policy(**changes), keep()) == expected


@pytest.mark.parametrize(
    ("kept", "expected"),
    [
        (keep(nodes=["n_c"]), ["n_a", "n_d", "n_y"]),
        (keep(op_types=["Relu", "Tanh"]), ALL),
    ],
    ids=["node", "other_types"],
)
def test_what_stays_float32_is_not_chosen(kept: dict, expected: list[str], graph: onnx.ModelProto) -> None:
    assert chosen_nodes(graph, policy(), kept) == expected


@pytest.mark.parametrize(
    ("changes", "fact", "fix"),
    [
        (
            {"include": ["block.*"]},
            "quantize.include: 'block.*' matches no node and no weight",
            "available: blocks.0.weight",
        ),
        (
            {"exclude": ["head.wieght"]},
            "quantize.exclude: 'head.wieght' matches no node and no weight",
            "did you mean 'head.weight'?",
        ),
        ({"exclude": ["n_b"]}, "quantize.exclude: 'n_b' matches no node and no weight", "did you mean 'n_"),
        ({"include": ["STEM.*"]}, "quantize.include: 'STEM.*' matches no node and no weight", "available"),
    ],
    ids=["include", "near_miss", "a_node_that_cannot_be_quantized", "case_counts"],
)
def test_a_pattern_that_means_nothing(changes: dict[str, Any], fact: str, fix: str, graph: onnx.ModelProto) -> None:
    with pytest.raises(LoweringError) as raised:
        chosen_nodes(graph, policy(**changes), keep())
    assert raised.value.fact == fact
    assert fix in raised.value.fix


@pytest.mark.parametrize(
    ("changes", "kept"),
    [
        ({"exclude": ["*"]}, keep()),
        ({"op_types": ["ConvTranspose"]}, keep(nodes=["n_u"])),
        ({}, keep(inputs=["x"])),
    ],
    ids=["exclude", "keep", "keep_an_input"],
)
def test_a_policy_that_leaves_nothing(changes: dict[str, Any], kept: dict, graph: onnx.ModelProto) -> None:
    with pytest.raises(LoweringError) as raised:
        chosen_nodes(graph, policy(**changes), kept)
    assert raised.value.fact == "the policy chooses none of 5 nodes to quantize"
    fix = "++component.<name>.quantize.op_types=[] leaves it as it is, on purpose"
    assert raised.value.fix == f"it has Conv, ConvTranspose; {fix}"


def test_types_that_the_graph_lacks_mean_nothing(graph: onnx.ModelProto) -> None:
    """They are shared by components, as a precision's list is; a pattern of one's own would be an error."""
    assert chosen_nodes(graph, policy(op_types=["Gemm"]), keep()) == []


def test_a_pattern_for_nodes_of_another_type(graph: onnx.ModelProto) -> None:
    """It would do nothing: `op_types` leaves them out."""
    with pytest.raises(LoweringError, match=r"quantize.include: 'up.\*' matches no node and no weight"):
        chosen_nodes(graph, policy(include=["up.*", "n_a"]), keep())


def test_one_node_is_both_first_and_last() -> None:
    weights = {"w": np.ones((4, 4), np.float32)}
    single = model([node("MatMul", "x w", "y")], [value("x", 2, 4)], [value("y", 2, 4)], weights)
    assert chosen_nodes(single, policy(), keep()) == ["n_y"]
    with pytest.raises(LoweringError, match="chooses none of 1 nodes"):
        chosen_nodes(single, policy(last=False), keep())


def test_a_graph_without_such_nodes() -> None:
    bare = model([node("Tanh", "x", "y")], [value("x", 4)], [value("y", 4)])
    assert chosen_nodes(bare, policy(first=False, last=False), keep()) == []
    assert watched_tensors(bare) == []


# -- what is observed ------------------------------------------------------------------------------


def test_watched_is_what_any_policy_could_quantize(graph: onnx.ModelProto) -> None:
    """Of every quantizable node, chosen or not, what it reads and makes; neither weights nor biases."""
    assert watched_tensors(graph) == ["a", "b", "c", "d", "e", "u", "x", "y"]


def test_both_sides_of_a_matmul_of_activations_are_watched() -> None:
    nodes = [node("MatMul", "q k", "scores"), node("Softmax", "scores", "p"), node("MatMul", "p v", "y")]
    inputs = [value(n, 3, 3) for n in ("q", "k", "v")]
    assert watched_tensors(model(nodes, inputs, [value("y", 3, 3)])) == ["k", "p", "q", "scores", "v", "y"]


def test_a_bias_that_is_computed_is_no_activation() -> None:
    nodes = [node("Relu", "h", "bias"), node("Conv", "x w bias", "y")]
    weights = {"w": np.ones((4, 4, 1), np.float32)}
    made = model(nodes, [value("x", 1, 4, 9), value("h", 4)], [value("y", 1, 4, 9)], weights)
    assert watched_tensors(made) == ["x", "y"]


def test_a_weight_behind_an_identity_is_a_weight() -> None:
    """As exporters leave it for two layers that share one."""
    nodes = [node("Identity", "w", "w2"), node("MatMul", "x w", "h"), node("MatMul", "h w2", "y")]
    made = model(nodes, [value("x", 1, 4)], [value("y", 1, 4)], {"w": np.ones((4, 4), np.float32)})
    assert {"x", "h", "y"} <= set(watched_tensors(made))


def test_matrix_products_of_whole_numbers_are_not_quantizable() -> None:
    nodes = [
        node("MatMul", "i m", "j"),
        node("Cast", "j", "f", to=onnx.TensorProto.FLOAT),
        node("MatMul", "f w", "y"),
    ]
    weights = {"m": np.ones((4, 4), np.int64), "w": np.ones((4, 4), np.float32)}
    made = model(nodes, [value("i", 2, 4, dtype=INT64)], [value("y", 2, 4)], weights)
    assert [n.name for n in quantizable(made)] == ["n_y"]
    assert watched_tensors(made) == ["f", "y"]
    assert chosen_nodes(made, policy(), keep()) == ["n_y"]
