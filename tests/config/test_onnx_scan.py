"""What a file's operators are, without the onnx package, held against the onnx package."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from autovoice.config.onnx_scan import operators, quantized_operators, random_operators
from tests.onnx_models import model, node, saved, value

X, Y = value("x", "n", 4), value("y", "n", 4)
SCALES = {"s": np.array(0.1, np.float32), "z": np.array(0, np.int8), "w8": np.ones((4, 4), np.int8)}
Q, DQ = node("QuantizeLinear", "x s z", "q"), node("DequantizeLinear", "q s z", "d")


def every(graph: onnx.GraphProto) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    for n in graph.node:
        for a in n.attribute:
            if a.HasField("g"):
                yield from every(a.g)
        yield n.op_type, n.name, tuple(n.input)


def branches() -> onnx.ModelProto:
    """A body in an If, weights of a megabyte, and an initializer between nodes' own names."""
    then = helper.make_graph([node("DynamicQuantizeLinear", "x", "a b c"), node("Relu", "x", "t")], "then", [], [Y])
    then.output[0].name = "t"
    other = helper.make_graph([node("Tanh", "x", "e")], "other", [], [value("e", "n", 4)])
    choose = helper.make_node("If", ["c0"], ["y"], "choose", then_branch=then, else_branch=other)
    weights = {"c0": np.array(True), "big": np.ones((512, 512), np.float32)}
    return model([choose], [X], [Y], weights)


def test_every_node_of_every_graph(tmp_path: Path) -> None:
    made = branches()
    found, inputs = operators(saved(made, tmp_path / "m.onnx"))
    assert [(o.op_type, o.name, o.inputs) for o in found] == list(every(made.graph))
    assert inputs == {"x"}


def test_functions_count(tmp_path: Path) -> None:
    function = helper.make_function(
        "own", "Quick", ["a"], ["b"], [node("ConvInteger", "a a", "b")], [helper.make_opsetid("", 18)]
    )
    graph = helper.make_graph([helper.make_node("Quick", ["x"], ["y"], domain="own")], "g", [X], [Y])
    imports = [helper.make_opsetid("", 18), helper.make_opsetid("own", 1)]
    made = helper.make_model(graph, opset_imports=imports, functions=[function])
    assert quantized_operators(saved(made, tmp_path / "m.onnx")) == ("ConvInteger",)


@pytest.mark.parametrize(
    ("nodes", "expected"),
    [
        pytest.param([node("Relu", "x", "y")], (), id="float"),
        pytest.param([Q, DQ, node("Relu", "d", "y")], ("DequantizeLinear", "QuantizeLinear"), id="pairs"),
        pytest.param(
            [node("DequantizeLinear", "w8 s z", "w"), node("MatMul", "x w", "y")], ("DequantizeLinear",), id="weights"
        ),
        pytest.param([node("DynamicQuantizeLinear", "x", "y b c")], ("DynamicQuantizeLinear",), id="dynamic"),
        pytest.param([helper.make_node("QLinearMatMul", ["x"], ["y"])], ("QLinearMatMul",), id="operators"),
        pytest.param(
            [helper.make_node("MatMulNBits", ["x"], ["y"], domain="com.microsoft", bits=4)], ("MatMulNBits",), id="bits"
        ),
        pytest.param([node("QuantizeLinear", "x s z", "y")], (), id="only_what_is_written_is_in_8_bits"),
        pytest.param([node("DequantizeLinear", "x s z", "y")], (), id="only_what_is_read_is_in_8_bits"),
    ],
)
def test_quantized_already(nodes: list[onnx.NodeProto], expected: tuple[str, ...], tmp_path: Path) -> None:
    weights = [numpy_helper.from_array(a, n) for n, a in SCALES.items()]
    made = helper.make_model(helper.make_graph(nodes, "g", [X], [Y], weights))
    assert quantized_operators(saved(made, tmp_path / "m.onnx")) == expected


def test_nodes_that_draw(tmp_path: Path) -> None:
    nodes = [
        node("RandomNormalLike", "x", "noise", "draw"),
        node("Dropout", "x", "calm", "at_rest"),
        node("Dropout", "noise r t", "wild", "in_training"),
        node("Add", "calm wild", "y"),
    ]
    weights = {"r": np.array(0.5, np.float32), "t": np.array(True)}
    path = saved(model(nodes, [X], [Y], weights), tmp_path / "m.onnx")
    assert [o.name for o in random_operators(path)] == ["draw", "in_training"]


@pytest.mark.parametrize("content", [None, b"", b"no ONNX at all, but text", b"\x3a\xff\xff\xff\xff\x0f"], ids=repr)
def test_what_is_no_onnx_file_has_no_operators(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    if content is not None:
        path.write_bytes(content)
    assert operators(path) == ([], set())


def test_a_file_cut_short_is_no_onnx_file(tmp_path: Path) -> None:
    path = saved(branches(), tmp_path / "m.onnx")
    path.write_bytes(path.read_bytes()[:-10])
    assert quantized_operators(path) == ()
