"""Floating point precisions: float32 as it is, float16 and bfloat16 with float32 inputs and outputs."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx

from autovoice.errors import LoweringError
from autovoice.onnx_tools.graph import captured, outputs_by_nodes, rename_reads, sort_nodes
from autovoice.onnx_tools.guard import guarded, inferred, invalid
from autovoice.onnx_tools.io import opset_of, save
from autovoice.onnx_tools.lowering import bodies
from autovoice.onnx_tools.lowering.exclude import kept_nodes
from autovoice.store.atomic import link_or_copy

if TYPE_CHECKING:
    from autovoice.spec.fields import KeepField


def keep_float32(source: Path, target: Path, keep: KeepField) -> dict[str, Any]:
    """Nothing to rewrite: the exported graph is the float32 graph."""
    link_or_copy(source, target)
    return {}


def to_float16(source: Path, target: Path, keep: KeepField) -> dict[str, Any]:
    """Weights and computation in float16, inputs and outputs as declared (ONNX Runtime's converter)."""
    model = onnx.load(source)
    kept = kept_nodes(model, keep)
    lowered = halved(model, kept)
    check_whole(lowered, "float16")
    save(lowered, target)
    return {"kept": kept, **bodies.bodies_note(lowered.graph)}


_KEEP = "keep the operator or node it names in float32: ++component.<name>.keep.op_types=[…]"


def halved(model: onnx.ModelProto, kept: Collection[str]) -> onnx.ModelProto:
    """A float32 model, which may be changed, in float16 but for `kept` nodes; float32 inputs and outputs stay so.

    What stands in bodies of If, Loop and Scan stays float32, and so does what is float64.
    """
    from onnxruntime.transformers.float16 import convert_float_to_float16

    graph = model.graph
    outputs_by_nodes(graph)
    returned = _take_returned(graph)
    known = [v for v in inferred(model).value_info if v.type.HasField("tensor_type")]
    taken = bodies.take_out(graph)
    del graph.value_info[:]
    graph.value_info.extend(known)  # of what stand-ins make, nothing can be inferred any more
    with guarded("onnxruntime's converter to float16", _KEEP):
        blocked = sorted({*kept, *taken, *_without_float16(model)})
        lowered: onnx.ModelProto = convert_float_to_float16(
            model, keep_io_types=True, disable_shape_infer=True, node_block_list=blocked
        )
    del lowered.graph.value_info[:]  # of types that some have no longer
    bodies.put_back(lowered.graph, taken)
    for output in returned:
        lowered.graph.output.insert(*output)
    _drop_repeats(lowered.graph)
    sort_nodes(lowered.graph)  # the converter appends its casts at the end
    _drop_round_trips(lowered)
    return lowered


def _without_float16(model: onnx.ModelProto) -> list[str]:
    """The nodes whose operator reads float32, and by ONNX's definition no float16; what it reads first decides."""
    opset, found = opset_of(model), []
    for node in (n for n in model.graph.node if n.domain in ("", "ai.onnx") and onnx.defs.has(n.op_type)):
        try:
            inputs = onnx.defs.get_schema(node.op_type, opset).inputs
        except onnx.defs.SchemaError:  # newer than the model
            continue
        floats = next((i.types for i in inputs if "tensor(float)" in i.types), None)
        if floats is not None and "tensor(float16)" not in floats:
            found.append(node.name)
    return found


def _take_returned(graph: onnx.GraphProto) -> list[tuple[int, onnx.ValueInfoProto]]:
    """Take outputs off that are an input as it is: nothing computes them; each with its place."""
    fed = {v.name for v in graph.input}
    found = [(i, onnx.ValueInfoProto.FromString(v.SerializeToString())) for i, v in enumerate(graph.output)]
    found = [(i, v) for i, v in found if v.name in fed]
    for i, _ in reversed(found):
        del graph.output[i]
    return found


def _drop_repeats(graph: onnx.GraphProto) -> None:
    """Leave one cast of each name: the converter puts one in for every kept node that reads a float16 value."""
    made: set[str] = set()
    for node in list(graph.node):
        if node.op_type == "Cast" and node.output[0] in made:
            graph.node.remove(node)
        made.update(node.output)


def to_bfloat16(source: Path, target: Path, keep: KeepField) -> dict[str, Any]:
    """Weights and computation in bfloat16, by casts around the nodes that compute."""
    from autovoice.onnx_tools.lowering.bfloat16 import bfloat16_from_float32

    model = onnx.load(source)
    kept = kept_nodes(model, keep)
    lowered = bfloat16_from_float32(model, set(kept))
    check_whole(lowered, "bfloat16")
    save(lowered, target)
    return {"kept": kept, **bodies.bodies_note(lowered.graph)}


def _drop_round_trips(model: onnx.ModelProto) -> None:
    """Remove float32 → float16 → float32 casts, in place.

    The converter puts one between an input and a node kept in float32, between two such nodes, and between one
    and an output: what was to be kept would be rounded all the same.
    """
    nodes, outputs = model.graph.node, {v.name for v in model.graph.output}
    known = inferred(model)
    floats = {
        v.name for v in (*known.value_info, *known.input) if v.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    }
    halved = {n.output[0]: n.input[0] for n in nodes if _casts_to(n, onnx.TensorProto.FLOAT16) and n.input[0] in floats}
    seconds = [n for n in nodes if _casts_to(n, onnx.TensorProto.FLOAT) and n.input[0] in halved]
    whole = {n.output[0]: halved[n.input[0]] for n in seconds if n.output[0] not in outputs}
    for node in seconds:
        if node.output[0] in outputs:  # the graph's own name for the value: it must be made by some node
            source, made = halved[node.input[0]], node.output[0]
            node.CopyFrom(onnx.helper.make_node("Identity", [source], [made], node.name))
    rename_reads(nodes, whole)
    for _ in range(2):  # the second casts fall first, then the first casts that only they read
        read = {name for node in nodes for name in (*node.input, *captured(node))} | outputs
        for node in [n for n in nodes if n.op_type == "Cast" and n.output[0] not in read]:
            nodes.remove(node)


def _casts_to(node: onnx.NodeProto, dtype: int) -> bool:
    return node.op_type == "Cast" and any(a.name == "to" and a.i == dtype for a in node.attribute)


def check_whole(model: onnx.ModelProto, to: str) -> None:
    """Raise LoweringError for a graph that onnx's checker or ONNX Runtime refuses."""
    fault = invalid(model)
    if fault is not None:
        raise LoweringError(
            f"the {to} graph is not a valid model: {fault}"[:400],
            "keep the node it names in float32: ++component.<name>.keep.nodes=[…]",
        )
