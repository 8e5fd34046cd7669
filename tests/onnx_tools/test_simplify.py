"""What onnxslim and onnx's inliner may do to a graph, and what is kept of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnxslim
import pytest
from onnx import helper, numpy_helper

from autovoice.onnx_tools.probe import Probe, differences
from autovoice.onnx_tools.simplify import simplified
from tests.onnx_models import INT64, model, node, value

Slim = Callable[[Callable[[onnx.ModelProto], onnx.ModelProto]], None]


def probe(**shapes: Any) -> Probe:
    return Probe({n: {"dtype": "float32", "shape": list(s)} for n, s in shapes.items()}, {}, {"n": 24}, {})


def product() -> onnx.ModelProto:
    """y = 2x·w: a product and a constant to fold."""
    nodes = [node("Identity", "x", "a"), node("Add", "w w", "ww"), node("MatMul", "a ww", "y")]
    return model(nodes, [value("x", "n", 8)], [value("y", "n", 8)], {"w": np.eye(8, dtype=np.float32)})


def answer(made: onnx.ModelProto, **feeds: np.ndarray) -> list[Any]:
    import onnxruntime

    return onnxruntime.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, feeds)


@pytest.fixture
def slim(monkeypatch: pytest.MonkeyPatch) -> Slim:
    """slim(f): f in place of onnxslim."""
    return lambda made: monkeypatch.setattr(onnxslim, "slim", made)


def test_a_graph_is_made_simpler_and_computes_the_same() -> None:
    made, notes = simplified(product(), probe(x=["n", 8]))
    assert ([n.op_type for n in made.graph.node], notes) == (["MatMul"], [])
    x = np.arange(16, dtype=np.float32).reshape(2, 8)
    np.testing.assert_array_equal(answer(made, x=x)[0], 2 * x)


def test_left_as_it_is_where_that_is_asked() -> None:
    made, notes = simplified(product(), probe(x=["n", 8]), simplify=False)
    assert ([n.op_type for n in made.graph.node], notes) == (["Identity", "Add", "MatMul"], [])


def raising(model: onnx.ModelProto) -> onnx.ModelProto:
    raise AttributeError("'NoneType' object has no attribute 'opset_import'")


def invalid(model: onnx.ModelProto) -> onnx.ModelProto:
    model.graph.node[-1].input[0] = "nowhere"
    return model


def another_value(model: onnx.ModelProto) -> onnx.ModelProto:
    model.graph.node[-1].input[1] = "w"
    return model


def frozen(model: onnx.ModelProto) -> onnx.ModelProto:
    """Right at the sizes of tracing alone."""
    model.graph.initializer.append(numpy_helper.from_array(np.array([2, 8]), "to"))
    model.graph.node[-1].output[0] = "z"
    model.graph.node.append(helper.make_node("Reshape", ["z", "to"], ["y"]))
    return model


def shrunk(model: onnx.ModelProto) -> onnx.ModelProto:
    for name, number in (("from", 0), ("to", 3), ("along", 1)):
        model.graph.initializer.append(numpy_helper.from_array(np.array([number]), name))
    model.graph.node[-1].output[0] = "z"
    model.graph.node.append(helper.make_node("Slice", ["z", "from", "to", "along"], ["y"]))
    return model


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (raising, "it raised AttributeError: 'NoneType' object has no attribute 'opset_import'"),
        (invalid, "it raised ValidationError: Nodes in a graph must be topologically sorted"),
        (another_value, "'y' becomes another value at n=2"),
        (frozen, "its graph does not run at n=5: "),
        (shrunk, "'y' becomes float32 [2, 3], was float32 [2, 8] at n=2"),
    ],
)
def test_a_simplifier_that_breaks_a_graph_is_left_out_and_the_reason_told(fault: Any, words: str, slim: Slim) -> None:
    slim(fault)
    before = product()
    made, (note,) = simplified(before, probe(x=["n", 8]))
    assert made.SerializeToString() == before.SerializeToString()
    assert note.startswith(f"onnxslim is left out: {words}")
    assert "\n" not in note


def test_inputs_that_a_simplifier_drops_or_moves_stay_where_they_are() -> None:
    made = product()
    made.graph.input.insert(0, value("sid", "n", dtype=INT64))
    inputs = {"sid": {"dtype": "int64", "shape": ["n"]}, "x": {"dtype": "float32", "shape": ["n", 8]}}
    given = Probe(inputs, {}, {"n": 24}, {})
    slimmer, notes = simplified(made, given)
    assert notes == []
    assert [v.name for v in slimmer.graph.input] == ["sid", "x"]
    assert [n.op_type for n in slimmer.graph.node] == ["MatMul"]


def test_a_graph_that_nothing_can_be_compared_of_stays_as_it_is() -> None:
    """It needs three ones and is given ones of another count."""
    made = model([node("Reshape", "x to", "y")], [value("x", 6), value("to", 2, dtype=INT64)], [value("y", "a", "b")])
    given = Probe({"x": {"dtype": "float32", "shape": [6]}, "to": {"dtype": "int64", "shape": [2]}}, {}, {}, {})
    given.inputs["to"]["shape"] = [5]  # type: ignore[index]
    _, (note,) = simplified(made, given)
    assert note.startswith("onnxslim is left out: onnxruntime runs the graph on no seeded input")


def test_random_numbers_may_differ_but_may_not_become_constants(slim: Slim) -> None:
    nodes = [node("RandomNormalLike", "x", "r"), node("Add", "x r", "y")]
    made = model(nodes, [value("x", "n", 8)], [value("y", "n", 8)])
    _, notes = simplified(made, probe(x=["n", 8]))
    assert notes == []

    def settled(model: onnx.ModelProto) -> onnx.ModelProto:
        model.graph.node[0].op_type = "Neg"
        return model

    slim(settled)
    _, (note,) = simplified(made, probe(x=["n", 8]))
    assert note.startswith("onnxslim is left out: 'y' becomes another value")


def calling(opset: int = 17) -> onnx.ModelProto:
    """y = Twice(x), a local function."""
    inner = [helper.make_node("Constant", [], ["k"], value_float=2.0), helper.make_node("Mul", ["a", "k"], ["b"])]
    function = helper.make_function("my.ops", "Twice", ["a"], ["b"], inner, [helper.make_opsetid("", opset)])
    graph = helper.make_graph(
        [helper.make_node("Twice", ["x"], ["y"], domain="my.ops")], "g", [value("x", "n", 8)], [value("y", "n", 8)]
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("my.ops", 1)]
    return helper.make_model(graph, opset_imports=opsets, functions=[function], ir_version=8)


@pytest.mark.parametrize("opset", [17, 13])
def test_local_functions_become_nodes(opset: int) -> None:
    made, _ = simplified(calling(opset), probe(x=["n", 8]), simplify=False)
    assert (list(made.functions), [n.op_type for n in made.graph.node][-1]) == ([], "Mul")
    np.testing.assert_array_equal(answer(made, x=np.ones((1, 8), np.float32))[0], np.full((1, 8), 2))


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        (np.array([1.0, np.nan, np.inf], np.float32), np.array([1.0, np.nan, np.inf], np.float32), True),
        (np.array([1.0, np.nan], np.float32), np.array([1.0, 2.0], np.float32), False),
        (np.array([1.0, np.inf], np.float32), np.array([1.0, -np.inf], np.float32), False),
        (np.ones(4, np.float32), np.ones(4, np.float32) + 1e-6, True),
        (np.ones(4, np.float32), np.ones(4, np.float32) + 1e-2, False),
        (np.ones(4, np.float16), np.ones(4, np.float16) + np.float16(1e-3), True),
        (np.array([3]), np.array([4]), False),
        (np.array([], np.float32), np.array([], np.float32), True),
        (np.ones(2, np.float32), np.ones(2, np.float64), False),
    ],
)
def test_what_counts_as_the_same(a: np.ndarray, b: np.ndarray, same: bool) -> None:
    assert (next(differences({"y": a}, {"y": b}), None) is None) is same
