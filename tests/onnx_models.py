"""Small ONNX files for tests, and what they compute by the reference evaluator of the onnx package."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

FLOAT, HALF, INT64, INT32 = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.INT64, TensorProto.INT32
KEEP_NOTHING: dict[str, list[str]] = {"op_types": [], "nodes": [], "inputs": []}


def keep(**more: list[str]) -> dict[str, list[str]]:
    return KEEP_NOTHING | more


def value(name: str, *shape: int | str, dtype: int = FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, dtype, shape)


def node(op: str, reads: str, makes: str, name: str = "", **attributes: Any) -> onnx.NodeProto:
    """A node by space-separated names; it is called after its first output unless named."""
    outputs = makes.split()
    return helper.make_node(op, reads.split(), outputs, name or f"n_{outputs[0]}", **attributes)


def model(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
    weights: Mapping[str, np.ndarray] | None = None,
    opset: int = 18,
) -> onnx.ModelProto:
    initializers = [numpy_helper.from_array(array, name) for name, array in (weights or {}).items()]
    graph = helper.make_graph(list(nodes), "toy", list(inputs), list(outputs), initializers)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    onnx.checker.check_model(made, full_check=True)
    return made


def saved(made: onnx.ModelProto, path: Path) -> Path:
    onnx.save(made, path)
    return path


def run(path: Path, **feeds: np.ndarray) -> list[np.ndarray]:
    return [np.asarray(x) for x in ReferenceEvaluator(str(path)).run(None, feeds)]


def types_of(path: Path) -> dict[str, str]:
    """{tensor: element type}, of everything whose type the file or inference tells."""
    graph = onnx.shape_inference.infer_shapes(onnx.load(path)).graph
    found = {t.name: t.data_type for t in graph.initializer}
    found |= {v.name: v.type.tensor_type.elem_type for v in (*graph.value_info, *graph.input, *graph.output)}
    return {name: TensorProto.DataType.Name(t) for name, t in found.items()}


def two_layers(rng: np.random.Generator) -> onnx.ModelProto:
    """x → MatMul → Tanh → MatMul → y, 8 wide."""
    weights = {w: rng.normal(size=(8, 8)).astype(np.float32) / 3 for w in ("w1", "w2")}
    nodes = [node("MatMul", "x w1", "a"), node("Tanh", "a", "b"), node("MatMul", "b w2", "y")]
    return model(nodes, [value("x", "n", 8)], [value("y", "n", 8)], weights)


def with_bodies(rng: np.random.Generator) -> onnx.ModelProto:
    """x [n, 8] → MatMul → If (captures the product, and a weight) → Loop (captures what the If made) → MatMul → y.

    Both branches call their node and their value the same, and hold a product of their own.
    """
    weights = {w: rng.normal(size=(8, 8)).astype(np.float32) / 3 for w in ("w1", "w2", "shared")}
    weights |= {"yes": np.array(True), "trips": np.array(3), "zero": np.zeros((1,), np.float32)}

    def branch(name: str, op: str) -> onnx.GraphProto:
        nodes = [node("MatMul", "m shared", "p", "inner"), node(op, "p", "o", "same")]
        return helper.make_graph(nodes, name, [], [helper.make_tensor_value_info("o", FLOAT, None)])

    i, go = value("i", dtype=INT64), value("go", dtype=TensorProto.BOOL)
    carried, kept = helper.make_tensor_value_info("c", FLOAT, None), helper.make_tensor_value_info("d", FLOAT, None)
    still = helper.make_tensor_value_info("still", TensorProto.BOOL, [])
    steps = [node("Identity", "go", "still", "same"), node("Add", "c chosen", "d", "inner")]
    body = helper.make_graph(steps, "body", [i, go, carried], [still, kept])
    nodes = [
        node("MatMul", "x w1", "m"),
        node("Add", "m shared_row", "n"),
        helper.make_node(
            "If", ["yes"], ["chosen"], "choice", then_branch=branch("then", "Tanh"), else_branch=branch("else", "Neg")
        ),
        helper.make_node("Loop", ["trips", "yes", "n"], ["looped"], "loop", body=body),
        node("MatMul", "looped w2", "y"),
    ]
    weights["shared_row"] = weights["w1"][0]
    return model(nodes, [value("x", "n", 8)], [value("y", "n", 8)], weights)
