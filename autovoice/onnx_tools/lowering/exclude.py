"""The nodes of a graph that stay in float32."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

import onnx

from autovoice.errors import LoweringError, nearest
from autovoice.onnx_tools.guard import inferred

if TYPE_CHECKING:
    from autovoice.spec.fields import KeepField

FLOATS = (
    onnx.TensorProto.FLOAT,
    onnx.TensorProto.FLOAT16,
    onnx.TensorProto.BFLOAT16,
    onnx.TensorProto.DOUBLE,
)


def kept_nodes(model: onnx.ModelProto, keep: KeepField) -> list[str]:
    """Names of the nodes that `keep` means, in graph order."""
    graph = model.graph
    reached = _reached(model, keep["inputs"]) if keep["inputs"] else set()
    return [
        n.name
        for n in graph.node
        if n.op_type in keep["op_types"] or n.name in reached or any(fnmatchcase(n.name, p) for p in keep["nodes"])
    ]


def check_keep(model: onnx.ModelProto, keep: KeepField) -> None:
    """Raise LoweringError for a node pattern or an input of a component's own list that means nothing.

    An exclusion that matches no node would be a silent no-op, the commonest mistake with such lists. Operator types
    may be absent as long as ONNX has them, and so may anything in a precision's list: those are shared between
    components.
    """
    here = {n.op_type for n in model.graph.node}
    for op in keep["op_types"]:
        if op not in here and not onnx.defs.has(op):
            raise LoweringError(f"keep.op_types: ONNX has no operator '{op}'", nearest(op, here)[:300])
    _check("nodes", keep["nodes"], [n.name for n in model.graph.node])
    _check("inputs", keep["inputs"], [v.name for v in model.graph.input])


def _check(key: str, patterns: Sequence[str], names: list[str]) -> None:
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise LoweringError(f"keep.{key}: '{pattern}' matches nothing", nearest(pattern, names)[:300])


def _reached(model: onnx.ModelProto, inputs: Sequence[str]) -> set[str]:
    """Nodes that compute from these inputs through floating point values alone."""
    graph = inferred(model)
    types = {v.name: v.type.tensor_type.elem_type for v in (*graph.value_info, *graph.input, *graph.output)}
    live = {v.name for v in graph.input if any(fnmatchcase(v.name, p) for p in inputs)}
    reached = set()
    for node in graph.node:  # in topological order
        if live.intersection(node.input):
            reached.add(node.name)
            live.update(o for o in node.output if types.get(o) in FLOATS)
    return reached
