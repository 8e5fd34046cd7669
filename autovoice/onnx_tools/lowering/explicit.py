"""float32 graph → explicit quantization, QuantizeLinear and DequantizeLinear pairs, as TensorRT's parsers read it.

What is quantized is what chosen nodes read: activations by measured ranges, one scale a tensor, and weights by their
own, one scale an output channel. Scales are symmetric and zero points zero: TensorRT refuses others, as it refuses
integer biases.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from autovoice.errors import LoweringError, choices, nearest
from autovoice.onnx_tools.graph import names_within, reads_of
from autovoice.onnx_tools.io import at_opset, save
from autovoice.onnx_tools.lowering.bodies import bodies_note
from autovoice.onnx_tools.lowering.exclude import kept_nodes
from autovoice.onnx_tools.lowering.floating import check_whole, halved, keep_float32, to_float16
from autovoice.onnx_tools.lowering.pairs import FORMATS, Pairs
from autovoice.onnx_tools.lowering.policy import chosen_nodes
from autovoice.onnx_tools.ranges import read_ranges
from autovoice.spec import QUANTIZABLE

if TYPE_CHECKING:
    from autovoice.spec.fields import KeepField, QuantizeField

#: their inputs beyond these are biases
_DATA_INPUTS = 2

#: the first with float8, and with float16 scales
_OPSET = 19


def to_qdq(
    source: Path,
    target: Path,
    keep: KeepField,
    quantize: QuantizeField,
    ranges: Path | None,
    dtype: str = "int8",
    around: str = "float32",
) -> dict[str, Any]:
    """Chosen nodes read `dtype` values, int8 or float8 (E4M3), dequantized; the rest computes in `around`."""
    if dtype not in FORMATS:
        raise LoweringError(f"precision.lowering.dtype: '{dtype}'", nearest(dtype, FORMATS))
    if around not in _AROUND:
        raise LoweringError(f"precision.lowering.around: '{around}'", nearest(around, _AROUND))
    model = onnx.load(source)
    nodes = chosen_nodes(model, quantize, keep)
    if not nodes:
        return {"quantized": [], **_AROUND[around](source, target, keep)}
    assert ranges is not None
    kept = kept_nodes(model, keep)
    save(with_qdq(model, nodes, read_ranges(ranges), dtype, around, kept), target)
    return {"quantized": nodes, "kept": kept, **bodies_note(model.graph)}


#: what a graph becomes of which nothing is quantized
_AROUND = {"float32": keep_float32, "float16": to_float16}


def with_qdq(
    model: onnx.ModelProto,
    nodes: Collection[str],
    ranges: Mapping[str, tuple[float, float]],
    dtype: str = "int8",
    around: str = "float32",
    kept: Collection[str] = (),
) -> onnx.ModelProto:
    """A copy of a float32 `model` in which `nodes` read int8 or float8 (E4M3FN) values, dequantized.

    `ranges` holds (low, high) of every activation that they read, by its name in `model`. The rest computes in
    `around`, float32 or float16, but `kept` nodes compute in float32; inputs and outputs stay float32, and biases
    and results are not quantized. Raises LoweringError for a node that is absent or not one of `QUANTIZABLE`, and
    for a tensor without a finite range.
    """
    chosen = _chosen(model, nodes)
    lowered = _surroundings(model, around, kept)
    weights = {t.name: t for t in model.graph.initializer}
    pairs = Pairs(dtype, names_within(lowered.graph))
    for node in lowered.graph.node:
        original = chosen.get(node.name)
        scale = np.dtype(np.float16 if around == "float16" and node.name not in kept else np.float32)
        # by the original's inputs: the converter to float16 puts casts in front and renames what an output shares
        for i, name in enumerate(original.input[:_DATA_INPUTS] if original else ()):
            if name in weights:
                node.input[i] = pairs.weight(weights[name], _channel_axis(node, i, weights[name]), scale)
            else:
                node.input[i] = pairs.activation(node.input[i], _largest(name, node.name, ranges), scale)
        pairs.nodes.append(node)
    _replace(lowered.graph, pairs, {name for n in chosen.values() for name in n.input if name in weights})
    check_whole(lowered, dtype)
    return lowered


def _chosen(model: onnx.ModelProto, names: Collection[str]) -> dict[str, onnx.NodeProto]:
    known = {n.name: n for n in model.graph.node}
    for name in names:
        if name not in known:
            raise LoweringError(f"no node '{name}' to quantize", nearest(name, known)[:300])
        if known[name].op_type not in QUANTIZABLE:
            raise LoweringError(
                f"node '{name}' is a {known[name].op_type}, which cannot be quantized",
                f"choose nodes of {choices(QUANTIZABLE)}",
            )
    return {name: known[name] for name in names}


def _largest(tensor: str, node: str, ranges: Mapping[str, tuple[float, float]]) -> float:
    if tensor not in ranges:
        raise LoweringError(
            f"node '{node}' reads '{tensor}', which has no range",
            f"calibrate it, or leave the node out; {nearest(tensor, ranges)}"[:300],
        )
    largest = max(abs(float(x)) for x in ranges[tensor])
    if not np.isfinite(ranges[tensor]).all():
        raise LoweringError(
            f"node '{node}' reads '{tensor}', whose range is {tuple(ranges[tensor])}",
            "calibrate with other data, or leave the node out: a mask of -inf cannot be quantized",
        )
    return largest


def _channel_axis(node: onnx.NodeProto, i: int, weight: onnx.TensorProto) -> int | None:
    """The axis of a weight's output channels, or None where only one scale for all of it is exact or supported."""
    attributes = {a.name: a.i for a in node.attribute}
    if i == 0:
        return None
    if node.op_type == "Conv":
        return 0
    if node.op_type == "ConvTranspose":  # [in, out / group, …]: with groups, a slice of axis 1 is not one channel
        return 1 if attributes.get("group", 1) == 1 else None
    if node.op_type == "Gemm":
        return 0 if attributes.get("transB", 0) else 1
    return 1 if len(weight.dims) == 2 else None


# -- what is around --------------------------------------------------------------------------------


def _surroundings(model: onnx.ModelProto, around: str, kept: Collection[str]) -> onnx.ModelProto:
    """A copy that computes in `around` and whose operators take any scale.

    To float16 before any pair is put in: the converter would take the scales for weights, and TensorRT 10 refuses that.
    """
    if around not in ("float32", "float16"):
        raise ValueError(around)
    newer = at_opset(model, _OPSET)
    return halved(newer, kept) if around == "float16" else newer


def _replace(graph: onnx.GraphProto, pairs: Pairs, quantized: Collection[str]) -> None:
    """Put the nodes in, and leave out casts and float weights that nothing reads any more."""
    del graph.node[:]
    graph.node.extend(pairs.nodes)
    graph.initializer.extend(pairs.tensors)
    read = reads_of(graph)
    for node in [n for n in graph.node if n.op_type == "Cast" and n.output[0] not in read]:
        graph.node.remove(node)
    read = reads_of(graph)
    for tensor in [t for t in graph.initializer if t.name in quantized and t.name not in read]:
        graph.initializer.remove(tensor)
