"""Floating point precisions: float32 as it is, float16 and bfloat16 with float32 inputs and outputs."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import onnx

from autovoice.errors import LoweringError
from autovoice.files import link_or_copy
from autovoice.lowering.exclude import kept_nodes
from autovoice.onnx_io import save


def keep_float32(source: Path, target: Path, keep: Mapping[str, Any]) -> dict[str, Any]:
    """Nothing to rewrite: the exported graph is the float32 graph."""
    link_or_copy(source, target)
    return {}


def to_float16(source: Path, target: Path, keep: Mapping[str, Any]) -> dict[str, Any]:
    """Weights and computation in float16, inputs and outputs as declared (ONNX Runtime's converter)."""
    model = onnx.load(source)
    kept = kept_nodes(model, keep)
    lowered = halved(model, kept)
    check_whole(lowered, "float16")
    save(lowered, target)
    return {"kept": kept}


def halved(model: onnx.ModelProto, kept: Collection[str]) -> onnx.ModelProto:
    """A float32 model, which may be changed, in float16 but for `kept` nodes; float32 inputs and outputs stay so."""
    from onnxruntime.transformers.float16 import convert_float_to_float16
    from onnxruntime.transformers.onnx_model import OnnxModel

    try:
        lowered: onnx.ModelProto = convert_float_to_float16(model, keep_io_types=True, node_block_list=sorted(kept))
    except (ValueError, RuntimeError, AttributeError) as e:
        raise LoweringError(
            f"the graph cannot be converted to float16: {e}",
            "keep the operator or node it names in float32: ++component.<name>.keep.op_types=[…]",
        ) from e
    _drop_repeats(lowered.graph)
    _drop_round_trips(lowered)
    OnnxModel(lowered).topological_sort()  # the converter appends its casts at the end
    return lowered


def _drop_repeats(graph: onnx.GraphProto) -> None:
    """Leave one cast of each name: the converter puts one in for every kept node that reads a float16 value."""
    made: set[str] = set()
    for node in list(graph.node):
        if node.op_type == "Cast" and node.output[0] in made:
            graph.node.remove(node)
        made.update(node.output)


def to_bfloat16(source: Path, target: Path, keep: Mapping[str, Any]) -> dict[str, Any]:
    """Weights and computation in bfloat16, by casts around the nodes that compute."""
    from autovoice.lowering.bfloat16 import bfloat16_from_float32

    model = onnx.load(source)
    kept = kept_nodes(model, keep)
    lowered = bfloat16_from_float32(model, set(kept))
    check_whole(lowered, "bfloat16")
    save(lowered, target)
    return {"kept": kept}


def _drop_round_trips(model: onnx.ModelProto) -> None:
    """Remove float32 → float16 → float32 casts, in place.

    The converter puts one between an input and a node kept in float32, between two such nodes, and between one
    and an output: what was to be kept would be rounded all the same.
    """
    nodes, outputs = model.graph.node, {v.name for v in model.graph.output}
    known = onnx.shape_inference.infer_shapes(model).graph
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
    for node in nodes:
        for i, name in enumerate(node.input):
            node.input[i] = whole.get(name, name)
    for _ in range(2):  # the second casts fall first, then the first casts that only they read
        read = {name for node in nodes for name in node.input} | outputs
        for node in [n for n in nodes if n.op_type == "Cast" and n.output[0] not in read]:
            nodes.remove(node)


def _casts_to(node: onnx.NodeProto, dtype: int) -> bool:
    return node.op_type == "Cast" and any(a.name == "to" and a.i == dtype for a in node.attribute)


def check_whole(model: onnx.ModelProto, to: str) -> None:
    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError as e:
        raise LoweringError(
            f"the {to} graph is not a valid model: {str(e).splitlines()[0]}",
            "keep the node it names in float32: ++component.<name>.keep.nodes=[…]",
        ) from e
