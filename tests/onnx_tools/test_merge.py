"""Graphs joined by wires compute what they compute one after another, whatever they call things inside."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper

from autovoice.errors import ExportError
from autovoice.onnx_tools.merge import Member, merged
from tests.onnx_models import model, node, two_layers, value


def run(made: onnx.ModelProto, **feeds: np.ndarray) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
    return dict(zip([o.name for o in session.get_outputs()], session.run(None, feeds), strict=True))


def member(name: str, made: onnx.ModelProto, reads: str, makes: str) -> Member:
    """Wires by position, `-` for nothing."""
    inputs = dict(zip((v.name for v in made.graph.input), reads.split(), strict=True))
    return Member(name, made, inputs, dict(zip((v.name for v in made.graph.output), makes.split(), strict=True)))


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(5)


def test_two_graphs_that_call_everything_the_same(rng: np.random.Generator) -> None:
    first, second = two_layers(rng), two_layers(rng)
    joined, names = merged([member("a", first, "x", "mid"), member("b", second, "mid", "y")], ["x"], ["y"])
    x = rng.standard_normal((3, 8)).astype(np.float32)
    np.testing.assert_array_equal(run(joined, x=x)["y"], run(second, x=run(first, x=x)["y"])["y"])
    assert sorted(t.name for t in joined.graph.initializer) == ["a.w1", "a.w2", "b.w1", "b.w2"]
    assert [n.name for n in joined.graph.node] == [f"{m}.n_{o}" for m in "ab" for o in ("a", "b", "y")]
    assert names["a"]["nodes"] == {"n_a": "a.n_a", "n_b": "a.n_b", "n_y": "a.n_y"}
    assert names["b"]["tensors"] == {"w1": "b.w1", "w2": "b.w2", "a": "b.a", "b": "b.b", "x": "mid"}


def test_names_of_one_member_alone_stay(rng: np.random.Generator) -> None:
    other = model([node("Relu", "p", "q")], [value("p", "n", 8)], [value("q", "n", 8)])
    joined, names = merged([member("a", two_layers(rng), "x", "h"), member("b", other, "h", "out")], ["x"], ["out"])
    assert [n.name for n in joined.graph.node] == ["n_a", "n_b", "n_y", "n_q"]
    assert names == {
        "a": {"nodes": {}, "tensors": {"y": "h"}},
        "b": {"nodes": {}, "tensors": {"p": "h", "q": "out"}},
    }


def test_inner_names_that_are_wires_elsewhere(rng: np.random.Generator) -> None:
    """`a` and `b` are wires here, and tensors inside."""
    first, second = two_layers(rng), two_layers(rng)
    joined, _ = merged([member("m", first, "a", "b"), member("n", second, "b", "w1")], ["a"], ["w1"])
    x = rng.standard_normal((2, 8)).astype(np.float32)
    np.testing.assert_array_equal(run(joined, a=x)["w1"], run(second, x=run(first, x=x)["y"])["y"])


def test_an_inner_wire_may_stay_an_output_and_axes_keep_their_names(rng: np.random.Generator) -> None:
    first, second = two_layers(rng), two_layers(rng)
    joined, _ = merged([member("a", first, "x", "mid"), member("b", second, "mid", "y")], ["x"], ["mid", "y"])
    x = rng.standard_normal((2, 8)).astype(np.float32)
    assert list(run(joined, x=x)) == ["mid", "y"]
    axes = [[d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim] for v in joined.graph.output]
    assert axes == [["n", 8], ["n", 8]]
    np.testing.assert_array_equal(run(joined, x=x)["mid"], run(first, x=x)["y"])


def test_members_side_by_side_that_read_one_wire(rng: np.random.Generator) -> None:
    double = model([node("Add", "u v", "s")], [value("u", 4), value("v", 4)], [value("s", 4)])
    both = [member("a", double, "x x", "p"), member("b", double, "x p", "q")]
    joined, _ = merged(both, ["x"], ["p", "q"])
    assert [v.name for v in joined.graph.input] == ["x"]
    x = rng.standard_normal(4).astype(np.float32)
    np.testing.assert_allclose(run(joined, x=x)["q"], 3 * x, rtol=1e-6)


def test_outputs_that_no_node_makes() -> None:
    """One is an input as it is, one a weight."""
    plain = helper.make_graph(
        [node("Neg", "x", "minus")],
        "g",
        [value("x", 2)],
        [value("x", 2), value("minus", 2), value("w", 2)],
        [onnx.numpy_helper.from_array(np.array([3, 4], np.float32), "w")],
    )
    made = helper.make_model(plain, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    through = Member("a", made, {"x": "raw"}, {"x": "same", "minus": "less", "w": "fixed"})
    add = model([node("Sum", "p q r", "s")], [value(n, 2) for n in "pqr"], [value("s", 2)])
    joined, _ = merged([through, member("b", add, "same less fixed", "sum")], ["raw"], ["sum", "same", "fixed"])
    found = run(joined, raw=np.array([1, 2], np.float32))
    assert {n: v.tolist() for n, v in found.items()} == {"sum": [3, 4], "same": [1, 2], "fixed": [3, 4]}
    assert plain.input[0].name == "x"  # what was given is as it was


def test_graphs_inside_nodes_follow_the_names() -> None:
    def branch(op: str) -> onnx.GraphProto:
        return helper.make_graph([node(op, "x w", "t"), node("Relu", "t", "r")], op, [], [value("r", 2)])

    choice = helper.make_node("If", ["c"], ["y"], "choose", then_branch=branch("Add"), else_branch=branch("Mul"))
    weights = {"w": np.array([2, 3], np.float32)}
    made = model([choice], [value("x", 2), value("c", dtype=onnx.TensorProto.BOOL)], [value("y", 2)], weights)
    both = [member("a", made, "first c", "mid"), member("b", made, "mid c", "last")]
    joined, _ = merged(both, ["first", "c"], ["last"])
    x = np.array([1, 1], np.float32)
    assert run(joined, first=x, c=np.array(True))["last"].tolist() == [5, 7]
    assert run(joined, first=x, c=np.array(False))["last"].tolist() == [4, 9]


def test_the_newest_opset_of_the_members(rng: np.random.Generator) -> None:
    old = model([node("Relu", "p", "q")], [value("p", "n", 8)], [value("q", "n", 8)], opset=17)
    joined, _ = merged([member("a", old, "x", "h"), member("b", two_layers(rng), "h", "y")], ["x"], ["y"])
    assert [(o.domain, o.version) for o in joined.opset_import] == [("", 18)]


def test_functions_of_one_name_must_be_one_function() -> None:
    def made(op: str) -> onnx.ModelProto:
        opsets = [helper.make_opsetid("", 18)]
        function = helper.make_function("own", "F", ["p"], ["q"], [helper.make_node(op, ["p"], ["q"])], opsets)
        call = helper.make_node("F", ["x"], ["y"], "call", domain="own")
        graph = helper.make_graph([call], "g", [value("x", 2)], [value("y", 2)])
        opsets = [*opsets, helper.make_opsetid("own", 1)]
        return helper.make_model(graph, opset_imports=opsets, functions=[function], ir_version=10)

    same = [member("a", made("Neg"), "x", "m"), member("b", made("Neg"), "m", "y")]
    joined, _ = merged(same, ["x"], ["y"])
    assert run(joined, x=np.array([1, 2], np.float32))["y"].tolist() == [1, 2]
    with pytest.raises(ExportError) as raised:
        merged([same[0], member("b", made("Abs"), "m", "y")], ["x"], ["y"])
    assert str(raised.value).startswith("b has another function 'own.F' than the others")


def test_what_no_checker_takes_is_told(rng: np.random.Generator) -> None:
    late = [member("b", two_layers(rng), "mid", "y"), member("a", two_layers(rng), "x", "mid")]
    with pytest.raises(ExportError, match="the members cannot be merged into one graph"):
        merged(late, ["x"], ["y"])


def test_it_is_the_same_bytes_again(rng: np.random.Generator) -> None:
    parts = [member("a", two_layers(rng), "x", "m"), member("b", two_layers(rng), "m", "y")]
    first, second = (merged(parts, ["x"], ["y"])[0].SerializeToString(deterministic=True) for _ in range(2))
    assert first == second
