from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from autovoice.errors import PrecisionError
from autovoice.measure.precision import (
    INTEGER,
    check_delivered,
    check_quantized,
    count_initializers,
    count_nodes,
    count_weights,
)
from autovoice.onnx_tools.lowering.floating import to_float16
from tests.onnx_models import FLOAT, HALF, INT64, keep, model, node, saved, two_layers, value

W32 = np.ones((4, 4, 1), np.float32)
HINT = "++component.<name>.keep.nodes=[…] names them, if that is intended"


@pytest.fixture
def one_left_behind(tmp_path: Path) -> Path:
    """Two convolutions in float16 and one that a converter forgot."""
    nodes = [
        node("Cast", "x", "xh", to=HALF),
        node("Conv", "xh wh", "a"),
        node("Conv", "a wh", "b"),
        node("Cast", "b", "bf", to=FLOAT),
        node("Conv", "bf w", "c"),
        node("Cast", "c", "ch", to=HALF),
        node("Relu", "ch", "d"),
        node("Cast", "d", "y", to=FLOAT),
    ]
    weights = {"w": W32, "wh": W32.astype(np.float16)}
    return saved(model(nodes, [value("x", 1, 4, "n")], [value("y", 1, 4, "n")], weights), tmp_path / "m.onnx")


def test_nodes_count_by_the_type_they_compute_in(one_left_behind: Path) -> None:
    assert count_nodes(one_left_behind) == {"float16": 3, "float32": 1}


def test_heavy_nodes_count_by_the_type_of_their_weights(one_left_behind: Path) -> None:
    assert count_weights(one_left_behind) == {"float16": 2, "float32": 1}


def test_one_convolution_left_in_float32_is_found(one_left_behind: Path) -> None:
    with pytest.raises(PrecisionError) as raised:
        check_delivered(one_left_behind, "float16", keep())
    assert raised.value.fact == "asked float16, but 1 of 3 heavy nodes are not: n_c (Conv) is float32"
    assert raised.value.fix == HINT


@pytest.mark.parametrize(
    "kept",
    [keep(nodes=["n_c"]), keep(nodes=["*c"])],
    ids=["name", "pattern"],
)
def test_a_kept_node_may_stay(kept: dict, one_left_behind: Path) -> None:
    check_delivered(one_left_behind, "float16", kept)


def test_keeping_another_node_excuses_nothing(one_left_behind: Path) -> None:
    with pytest.raises(PrecisionError, match=r"1 of 2 heavy nodes are not: n_c \(Conv\) is float32"):
        check_delivered(one_left_behind, "float16", keep(nodes=["n_a"]))


def test_a_kept_type_may_stay(one_left_behind: Path) -> None:
    check_delivered(one_left_behind, "float16", keep(op_types=["Conv"]))


def test_float32_asked_and_float16_got(one_left_behind: Path) -> None:
    with pytest.raises(PrecisionError, match=r"asked float32, but 2 of 3 heavy nodes are not: n_a \(Conv\) is float16"):
        check_delivered(one_left_behind, "float32", keep())


def test_a_graph_that_was_never_lowered(tmp_path: Path) -> None:
    path = saved(two_layers(np.random.default_rng(0)), tmp_path / "m.onnx")
    check_delivered(path, "float32", keep())
    with pytest.raises(PrecisionError, match=r"asked bfloat16, but 2 of 2 heavy nodes are not: n_a \(MatMul\)"):
        check_delivered(path, "bfloat16", keep())


def test_without_heavy_nodes_some_node_must_compute_in_it(tmp_path: Path) -> None:
    path = saved(model([node("Tanh", "x", "y")], [value("x", 4)], [value("y", 4)]), tmp_path / "m.onnx")
    with pytest.raises(PrecisionError) as raised:
        check_delivered(path, "float16", keep())
    assert str(raised.value) == (
        "asked float16, but no node of the graph computes in it\n  it is in float32 throughout"
    )
    to_float16(path, tmp_path / "h.onnx", keep())
    check_delivered(tmp_path / "h.onnx", "float16", keep())


def test_a_graph_without_floating_point_has_no_precision(tmp_path: Path) -> None:
    nodes = [node("Add", "x x", "y")]
    made = model(nodes, [value("x", 4, dtype=INT64)], [value("y", 4, dtype=INT64)])
    check_delivered(saved(made, tmp_path / "m.onnx"), "float16", keep())
    assert count_nodes(tmp_path / "m.onnx") == {}


def test_all_that_is_computed_from_a_kept_input_may_stay(tmp_path: Path) -> None:
    """A position is scaled by a MatMul in float32 until it is an index; the table behind it is float16."""
    nodes = [
        node("MatMul", "position scale", "scaled"),
        node("Cast", "scaled", "index", to=INT64),
        node("Gather", "table index", "rows"),
        node("MatMul", "rows wh", "h"),
        node("Cast", "h", "y", to=FLOAT),
    ]
    weights = {
        "scale": np.full((1, 1), 0.5, np.float32),
        "table": np.ones((9, 2), np.float16),
        "wh": np.ones((2, 2), np.float16),
    }
    made = model(nodes, [value("position", 3, 1)], [value("y", 3, 1, 2)], weights)
    path = saved(made, tmp_path / "m.onnx")
    check_delivered(path, "float16", keep(inputs=["position"]))
    with pytest.raises(PrecisionError, match=r"1 of 2 heavy nodes are not: n_scaled \(MatMul\)"):
        check_delivered(path, "float16", keep())


def test_casts_do_not_count_as_computing(tmp_path: Path) -> None:
    nodes = [node("Cast", "x", "h", to=HALF), node("Cast", "h", "f", to=FLOAT), node("Tanh", "f", "y")]
    path = saved(model(nodes, [value("x", 4)], [value("y", 4)]), tmp_path / "m.onnx")
    assert count_nodes(path) == {"float32": 1}
    with pytest.raises(PrecisionError, match="no node of the graph computes in it"):
        check_delivered(path, "float16", keep())


def test_the_shipped_lowering_delivers(tmp_path: Path) -> None:
    path = saved(two_layers(np.random.default_rng(0)), tmp_path / "m.onnx")
    to_float16(path, tmp_path / "h.onnx", keep(nodes=["n_y"]))
    check_delivered(tmp_path / "h.onnx", "float16", keep(nodes=["n_y"]))
    with pytest.raises(PrecisionError, match=r"1 of 2 heavy nodes are not: n_y \(MatMul\) is float32"):
        check_delivered(tmp_path / "h.onnx", "float16", keep())
    assert onnx.load(tmp_path / "h.onnx").graph.output[0].type.tensor_type.elem_type == FLOAT


def test_a_heavy_node_of_another_domain_is_told_by_its_weights(tmp_path: Path) -> None:
    weight = helper.make_tensor("w", TensorProto.FLOAT, [4, 4], np.zeros(16, np.float32).tobytes(), raw=True)
    fused = helper.make_node("FusedMatMul", ["x", "w"], ["y"], "fused", domain="com.microsoft")
    half = helper.make_node("Cast", ["y"], ["h"], "half", to=TensorProto.FLOAT16)
    graph = helper.make_graph(
        [fused, half],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4])],
        [helper.make_tensor_value_info("h", TensorProto.FLOAT16, [1, 4])],
        [weight],
    )
    path = tmp_path / "m.onnx"
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("com.microsoft", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets), path)
    with pytest.raises(PrecisionError, match=r"fused \(FusedMatMul\) is float32"):
        check_delivered(path, "float16", {"op_types": [], "nodes": [], "inputs": []})


# -- quantized graphs --------------------------------------------------------------------------------

POLICY: dict[str, Any] = {"op_types": ["Conv"], "include": [], "exclude": [], "first": True, "last": True}
SCALE = {"s": np.array(0.1, np.float32), "z": np.array(0, np.uint8), "zw": np.array(0, np.int8)}


def pair(reads: str, makes: str) -> list[onnx.NodeProto]:
    """An activation through uint8 and back."""
    quantized = node("QuantizeLinear", f"{reads} s z", f"{makes}_q")
    return [quantized, node("DequantizeLinear", f"{makes}_q s z", makes)]


def three_convolutions(path: Path, quantized: str) -> Path:
    """x → n_a → n_b → n_c → y; of these, `quantized` read integers."""
    nodes, weights, at = [], {"w": W32}, "x"
    for name in "abc":
        out, weight, reads = "y" if name == "c" else name, "w", at
        if name in quantized:
            nodes += pair(at, f"{name}_in")
            nodes.append(node("DequantizeLinear", f"w_{name} s zw", f"w_{name}_back"))
            weights |= SCALE | {f"w_{name}": np.ones((4, 4, 1), np.int8)}
            weight, reads = f"w_{name}_back", f"{name}_in"
        nodes.append(node("Conv", f"{reads} {weight}", out, f"n_{name}"))
        at = out
    return saved(model(nodes, [value("x", 1, 4, "n")], [value("y", 1, 4, "n")], weights), path)


@pytest.mark.parametrize(
    ("quantized", "counts"),
    [
        ("", {"float32": 3}),
        ("b", {"float32": 2, "int8": 1}),
        ("abc", {"int8": 3}),
    ],
    ids=["none", "one", "all"],
)
def test_what_reads_dequantized_integers_counts_as_int8(quantized: str, counts: dict[str, int], tmp_path: Path) -> None:
    path = three_convolutions(tmp_path / "m.onnx", quantized)
    assert count_nodes(path) == counts
    assert count_nodes(path, heavy=True) == counts


def test_what_is_light_counts_as_float32_whatever_it_reads(tmp_path: Path) -> None:
    nodes = [*pair("x", "h"), node("Relu", "h", "y")]
    path = saved(model(nodes, [value("x", 1, 4)], [value("y", 1, 4)], SCALE), tmp_path / "m.onnx")
    assert count_nodes(path) == {"float32": 1}
    assert count_nodes(path, heavy=True) == {}


@pytest.mark.parametrize(
    ("reads", "expected"),
    [("x w_back", "float32"), ("h w", "float32"), ("h w_back", "int8")],
    ids=["weights_alone", "activations_alone", "both"],
)
def test_both_that_are_multiplied_must_be_integers(reads: str, expected: str, tmp_path: Path) -> None:
    nodes = [*pair("x", "h"), node("DequantizeLinear", "w_q s zw", "w_back"), node("Conv", reads, "y")]
    weights = SCALE | {"w": W32, "w_q": np.ones((4, 4, 1), np.int8)}
    path = saved(model(nodes, [value("x", 1, 4, "n")], [value("y", 1, 4, "n")], weights), tmp_path / "m.onnx")
    assert count_nodes(path) == {expected: 1}


def test_weights_count_by_the_type_they_are_stored_in(tmp_path: Path) -> None:
    path = three_convolutions(tmp_path / "m.onnx", "ab")
    assert count_initializers(path) == {"float32": 2, "int8": 3, "uint8": 1}


@pytest.mark.parametrize(
    ("changes", "kept", "quantized"),
    [
        ({}, keep(), "abc"),
        ({"first": False}, keep(), "bc"),
        ({"exclude": ["n_[ac]"]}, keep(), "b"),
        ({}, keep(nodes=["n_b"]), "ac"),
        ({"op_types": []}, keep(), ""),
    ],
    ids=["all", "not_the_first", "excluded", "kept", "nothing"],
)
def test_a_quantized_graph_that_follows_its_policy(
    changes: dict[str, Any], kept: dict, quantized: str, tmp_path: Path
) -> None:
    exported = three_convolutions(tmp_path / "e.onnx", "")
    check_quantized(exported, three_convolutions(tmp_path / "q.onnx", quantized), "int8", POLICY | changes, kept)


@pytest.mark.parametrize(
    ("quantized", "fact"),
    [
        ("ac", "asked int8, but 1 of 3 nodes are not: n_b is float32"),
        ("", "asked int8, but 3 of 3 nodes are not: n_a is float32"),
    ],
    ids=["one", "all"],
)
def test_a_chosen_node_left_in_float32_is_found(quantized: str, fact: str, tmp_path: Path) -> None:
    exported = three_convolutions(tmp_path / "e.onnx", "")
    with pytest.raises(PrecisionError) as raised:
        check_quantized(exported, three_convolutions(tmp_path / "q.onnx", quantized), "int8", POLICY, keep())
    assert raised.value.fact == fact
    assert raised.value.fix == "++component.<name>.quantize.exclude=[…] leaves them out, if that is intended"


def test_a_chosen_node_that_is_gone_is_found(tmp_path: Path) -> None:
    exported = three_convolutions(tmp_path / "e.onnx", "")
    lowered = onnx.load(three_convolutions(tmp_path / "q.onnx", "abc"))
    lowered.graph.node[-1].name = "renamed"
    with pytest.raises(PrecisionError, match="1 of 3 nodes are not: n_c is no node of the lowered graph"):
        check_quantized(exported, saved(lowered, tmp_path / "q.onnx"), "int8", POLICY, keep())


@pytest.mark.parametrize(
    ("changes", "kept"),
    [({"exclude": ["n_b"]}, keep()), ({}, keep(nodes=["n_b"]))],
    ids=["excluded", "kept"],
)
def test_a_node_quantized_against_the_policy_is_found(changes: dict[str, Any], kept: dict, tmp_path: Path) -> None:
    exported = three_convolutions(tmp_path / "e.onnx", "")
    with pytest.raises(PrecisionError) as raised:
        check_quantized(exported, three_convolutions(tmp_path / "q.onnx", "abc"), "int8", POLICY | changes, kept)
    assert raised.value.fact == "n_b computes in int8, which the policy leaves out"
    assert raised.value.fix == "the lowering does not follow quantize.include and exclude"


def test_int8_is_not_float8(tmp_path: Path) -> None:
    exported = three_convolutions(tmp_path / "e.onnx", "")
    with pytest.raises(PrecisionError, match="asked float8, but 3 of 3 nodes are not: n_a is int8"):
        check_quantized(exported, three_convolutions(tmp_path / "q.onnx", "abc"), "float8", POLICY, keep())


@pytest.mark.parametrize("op", INTEGER)
def test_integer_operators_of_an_optimised_file_count_as_int8(op: str, tmp_path: Path) -> None:
    """As ONNX Runtime saves it: operators of its own domain, whose types no inference here knows."""
    nodes = [
        helper.make_node(op, ["x_q", "s", "z", "w_q", "s", "z", "s", "z"], ["a"], "a", domain="com.microsoft"),
        helper.make_node("Conv", ["b", "w"], ["y"], "y"),
        helper.make_node(op, ["a"], ["b"], "b", domain="com.microsoft"),
    ]
    weights = [onnx.numpy_helper.from_array(np.ones((4, 4, 1), np.int8), "w_q"), onnx.numpy_helper.from_array(W32, "w")]
    graph = helper.make_graph(nodes, "g", [value("x_q", 1, 4)], [value("y", 1, 4)], weights)
    onnx.save(helper.make_model(graph), tmp_path / "m.onnx")
    assert count_weights(tmp_path / "m.onnx") == {"float32": 1, "int8": 2}
