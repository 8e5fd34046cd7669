from __future__ import annotations

import onnx
import pytest

from autovoice.errors import LoweringError
from autovoice.onnx_tools.lowering.exclude import check_keep, kept_nodes
from tests.onnx_models import FLOAT, INT64, keep, model, node, value


@pytest.fixture
def graph() -> onnx.ModelProto:
    """f0 → scaled → index (whole) → row → mixed ← energy."""
    nodes = [
        node("Log", "f0", "scaled"),
        node("Floor", "scaled", "floored"),
        node("Cast", "floored", "index", to=INT64),
        node("Cast", "index", "row", to=FLOAT),
        node("Relu", "energy", "loud"),
        node("Add", "row loud", "y"),
        node("Greater", "floored energy", "higher"),
        node("Not", "higher", "lower"),
    ]
    outputs = [value("y", 4), value("lower", 4, dtype=onnx.TensorProto.BOOL)]
    return model(nodes, [value("f0", 4), value("energy", 4)], outputs)


@pytest.mark.parametrize(
    ("kept", "expected"),
    [
        pytest.param(keep(), [], id="nothing"),
        pytest.param(keep(op_types=["Cast", "Add"]), ["n_index", "n_row", "n_y"], id="types"),
        pytest.param(keep(op_types=["Softmax"]), [], id="absent_type"),
        pytest.param(keep(nodes=["n_y"]), ["n_y"], id="name"),
        pytest.param(keep(nodes=["n_?o*", "n_index"]), ["n_index", "n_row", "n_loud", "n_lower"], id="patterns"),
        pytest.param(
            keep(inputs=["f0"]), ["n_scaled", "n_floored", "n_index", "n_higher"], id="input_until_it_is_an_index"
        ),
        pytest.param(keep(inputs=["energy"]), ["n_loud", "n_y", "n_higher"], id="input_until_it_is_a_bool"),
        pytest.param(
            keep(op_types=["Not"], nodes=["n_row"], inputs=["energy"]),
            ["n_row", "n_loud", "n_y", "n_higher", "n_lower"],
            id="all_in_the_order_of_the_graph",
        ),
    ],
)
def test_kept(kept: dict, expected: list[str], graph: onnx.ModelProto) -> None:
    assert kept_nodes(graph, kept) == expected


@pytest.mark.parametrize(
    ("kept", "fact", "fix"),
    [
        (keep(nodes=["n_y", "n_ro"]), "keep.nodes: 'n_ro' matches nothing", "did you mean 'n_row'? available: n_"),
        (keep(nodes=["N_Y"]), "keep.nodes: 'N_Y' matches nothing", "available: n_"),
        (keep(op_types=["Addd"]), "keep.op_types: ONNX has no operator 'Addd'", "did you mean 'Add'?"),
        (keep(inputs=["f1"]), "keep.inputs: 'f1' matches nothing", "available: energy, f0"),
    ],
    ids=["nodes", "case_counts", "op_types", "inputs"],
)
def test_a_pattern_that_means_nothing(kept: dict, fact: str, fix: str, graph: onnx.ModelProto) -> None:
    with pytest.raises(LoweringError) as raised:
        check_keep(graph, kept)
    assert raised.value.fact == fact
    assert fix in raised.value.fix
    assert kept_nodes(graph, kept) in ([], ["n_y"])


def test_a_pattern_for_inputs_means_them_all(graph: onnx.ModelProto) -> None:
    assert kept_nodes(graph, keep(inputs=["*"])) == kept_nodes(graph, keep(inputs=["f0", "energy"]))
