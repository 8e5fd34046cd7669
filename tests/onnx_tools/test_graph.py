from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from autovoice.onnx_tools.graph import (
    captured,
    name_nodes,
    nodes_within,
    outputs_by_nodes,
    reads_of,
    rename_reads,
    sort_nodes,
    tensors,
)
from tests.onnx_models import model, node, value, with_bodies


@pytest.fixture
def bodies() -> onnx.ModelProto:
    return with_bodies(np.random.default_rng(0))


def by_name(made: onnx.ModelProto, name: str) -> onnx.NodeProto:
    return next(n for n in made.graph.node if n.name == name)


def test_what_bodies_read_of_the_graph_around_them(bodies: onnx.ModelProto) -> None:
    assert captured(by_name(bodies, "choice")) == {"m", "shared"}
    assert captured(by_name(bodies, "loop")) == {"chosen"}
    assert captured(by_name(bodies, "n_m")) == set()
    assert {"m", "shared", "chosen", "y", "trips"} <= reads_of(bodies.graph)


def test_what_a_body_inside_a_body_reads_is_read_of_the_outermost_too() -> None:
    inner = helper.make_graph([node("Neg", "x", "a")], "inner", [], [value("a", 2)])
    outer = helper.make_graph(
        [helper.make_node("If", ["q"], ["b"], then_branch=inner, else_branch=inner)], "outer", [], [value("b", 2)]
    )
    choice = helper.make_node("If", ["p"], ["y"], then_branch=outer, else_branch=outer)
    assert captured(choice) == {"x", "q"}


@pytest.mark.parametrize("seed", range(5))
def test_every_order_is_sorted_so_that_captured_values_are_made_before(seed: int, bodies: onnx.ModelProto) -> None:
    order = np.random.default_rng(seed).permutation(len(bodies.graph.node))
    shuffled = [onnx.NodeProto.FromString(bodies.graph.node[i].SerializeToString()) for i in order]
    del bodies.graph.node[:]
    bodies.graph.node.extend(shuffled)
    sort_nodes(bodies.graph)
    known = {"x", *(t.name for t in bodies.graph.initializer)}
    for n in bodies.graph.node:
        assert {*n.input, *captured(n)} <= known
        known.update(n.output)
    onnx.checker.check_model(bodies)


def test_a_sorted_graph_keeps_its_order(bodies: onnx.ModelProto) -> None:
    before = [n.name for n in bodies.graph.node]
    sort_nodes(bodies.graph)
    assert [n.name for n in bodies.graph.node] == before


def test_nodes_of_branches_that_share_names_get_names_of_their_own(bodies: onnx.ModelProto) -> None:
    before = [n.name for n in bodies.graph.node]
    name_nodes(bodies)
    every = [n.name for n in nodes_within(bodies.graph.node)]
    assert len(set(every)) == len(every) == len(before) + 6
    assert [n.name for n in bodies.graph.node] == before


def test_a_body_that_makes_a_value_of_that_name_keeps_its_own() -> None:
    own = helper.make_graph([node("Neg", "z", "x"), node("Neg", "x", "a")], "own", [], [value("a", 2)])
    other = helper.make_graph([node("Neg", "x", "b")], "other", [], [value("b", 2)])
    choice = helper.make_node("If", ["p"], ["y"], then_branch=own, else_branch=other)
    rename_reads([choice], {"x": "new"})
    graphs = {a.name: a.g for a in choice.attribute}
    assert [list(n.input) for n in graphs["then_branch"].node] == [["z"], ["x"]]
    assert [list(n.input) for n in graphs["else_branch"].node] == [["new"]]


def test_a_weight_that_is_an_output_is_made_by_a_node() -> None:
    made = model(
        [node("Mul", "x w", "y")], [value("x", 2)], [value("y", 2), value("w", 2)], {"w": np.ones(2, np.float32)}
    )
    outputs_by_nodes(made.graph)
    onnx.checker.check_model(made)
    assert [v.name for v in made.graph.output] == ["y", "w"]
    assert {o for n in made.graph.node for o in n.output} == {"y", "w"}


def test_tensors_of_attributes_with_many() -> None:
    many = helper.make_node("Any", [], ["y"], domain="my.ops")
    one = numpy_helper.from_array(np.ones(2, np.float32), "one")
    many.attribute.append(helper.make_attribute("values", [one, one]))
    made = model([node("Neg", "x", "y")], [value("x", 2)], [value("y", 2)])
    made.graph.node.append(many)
    assert [t.name for t in tensors(made)] == ["one", "one"]
