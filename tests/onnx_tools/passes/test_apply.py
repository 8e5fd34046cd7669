"""Passes by name: those that exist, a user's own, and what is said of others."""

from __future__ import annotations

import onnx
import pytest

from autovoice.errors import LoweringError
from autovoice.onnx_tools.passes import PASSES, apply, find
from tests.onnx_tools.passes.checks import model, node, normal, value


def small() -> onnx.ModelProto:
    return model(
        [node("Conv", "x w", "y")], [value("x", "B", 3, "T")], [value("y", "B", 4, "T")], {"w": normal(4, 3, 1)}
    )


def rename(made: onnx.ModelProto) -> int:
    made.graph.name = "renamed"
    return 1


def corrupt(made: onnx.ModelProto) -> int:
    made.graph.node[0].op_type = "Unheard"
    return 1


def test_every_pass_of_the_list_is_found_and_named_as_in_the_list() -> None:
    assert {name: find(name).__name__ for name in PASSES} == {name: name for name in PASSES}


def test_no_pass_changes_nothing() -> None:
    made = small()
    assert apply(made, []) == {}
    assert made == small()


def test_passes_run_in_the_order_given_and_say_what_they_did() -> None:
    made = small()
    assert list(apply(made, ["merge_parallel_convs", "lift_conv1d"]).items()) == [
        ("merge_parallel_convs", 0),
        ("lift_conv1d", 1),
    ]


def test_a_pass_named_twice_runs_twice() -> None:
    name = "tests.onnx_tools.passes.test_apply.rename"
    assert apply(small(), [name, "lift_conv1d", name]) == {name: 2, "lift_conv1d": 1}


def test_a_pass_of_ones_own_is_named_by_its_path() -> None:
    made = small()
    assert apply(made, ["tests.onnx_tools.passes.test_apply.rename"]) == {
        "tests.onnx_tools.passes.test_apply.rename": 1
    }
    assert made.graph.name == "renamed"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("lift_conv", "there is no pass 'lift_conv'\n  did you mean 'lift_conv1d'"),
        ("nowhere.at_all", "pass 'nowhere.at_all' cannot be imported: No module named 'nowhere'"),
        ("autovoice.onnx_tools.passes.lift.absent", "cannot be imported"),
        ("autovoice.onnx_tools.passes.PASSES", "is not a function"),
    ],
)
def test_a_name_that_is_no_pass_is_told_before_anything_runs(name: str, words: str) -> None:
    made = small()
    with pytest.raises(LoweringError) as e:
        apply(made, ["lift_conv1d", name])
    assert words in str(e.value)
    assert made == small()


def test_a_pass_that_breaks_the_graph_is_named() -> None:
    with pytest.raises(LoweringError, match=r"not valid after tests.onnx_tools.passes.test_apply.corrupt"):
        apply(small(), ["tests.onnx_tools.passes.test_apply.corrupt"])


@pytest.mark.parametrize("name", PASSES)
def test_a_graph_without_convolutions_is_left_alone(name: str) -> None:
    made = model([node("Tanh", "x", "y")], [value("x", "B", 3, "T")], [value("y", "B", 3, "T")])
    assert apply(made, [name]) == {name: 0}


@pytest.mark.parametrize("name", PASSES)
def test_a_graph_that_cannot_be_understood_is_left_alone(name: str) -> None:
    nodes = [node("Unheard", "x", "a", domain="some.where"), node("Conv", "a w", "y")]
    graph = onnx.helper.make_graph(
        nodes,
        "toy",
        [value("x", "B", 3, "T")],
        [value("y", "B", 4, "T")],
        [onnx.numpy_helper.from_array(normal(4, 3, 1), "w")],
    )
    opsets = [onnx.helper.make_opsetid("", 18), onnx.helper.make_opsetid("some.where", 1)]
    made = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=10)
    assert apply(made, [name]) == {name: 0}


@pytest.mark.parametrize("name", PASSES)
def test_an_opset_too_old_is_left_alone(name: str) -> None:
    made = model(
        [node("Conv", "x w", "y")],
        [value("x", "B", 3, "T")],
        [value("y", "B", 4, "T")],
        {"w": normal(4, 3, 1)},
        opset=11,
    )
    assert apply(made, [name]) == {name: 0}
