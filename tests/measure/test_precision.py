from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from autovoice.errors import PrecisionError
from autovoice.lowering.floating import to_float16
from autovoice.measure.precision import check_delivered, count_nodes, count_weights
from tests.onnx_models import FLOAT, HALF, INT64, keep, model, node, saved, two_layers, value

W32 = np.ones((4, 4, 1), np.float32)
HINT = "name them in keep.nodes if that is meant"


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
