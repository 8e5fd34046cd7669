"""Precision truth: in what types the nodes of a built ONNX file really compute."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import onnx

from autovoice.errors import PrecisionError
from autovoice.onnx_tools.graph import inner_graphs, nodes_within
from autovoice.onnx_tools.guard import inferred
from autovoice.onnx_tools.io import HEAVY, dtype_name
from autovoice.onnx_tools.lowering.exclude import kept_nodes
from autovoice.onnx_tools.lowering.policy import chosen_nodes

if TYPE_CHECKING:
    from autovoice.spec.fields import KeepField, QuantizeField

#: what a quantized value is stored in → the compute type of whoever reads it
QUANTIZED = {"int8": "int8", "uint8": "int8", "float8e4m3fn": "float8"}
_FLOATS = ("float32", "float16", "bfloat16", "float64")
#: operators whose weights are blocks of few bits, `bits` of them, 4 unless they say otherwise
_BLOCKS = ("MatMulNBits", "MatMulBnb4")
#: these only move or make values
_NEUTRAL = ("Cast", "Constant", "Identity", "Shape", "QuantizeLinear", "DequantizeLinear")
#: operators on integers that ONNX Runtime makes of Q/DQ pairs and what stands between
INTEGER = (
    *("QLinearConv", "QLinearMatMul", "QGemm", "QLinearConvTranspose", "ConvInteger", "MatMulInteger"),
    *("MatMulIntegerToFloat", "DynamicQuantizeMatMul", "QAttention", "DynamicQuantizeLSTM"),
)


def count_nodes(path: Path, heavy: bool = False) -> dict[str, int]:
    """{type: nodes that compute in it}; with `heavy`, convolutions and matrix products alone.

    By the type of each node's first floating point output, and int8 or float8 where all that a heavy node
    multiplies comes out of a DequantizeLinear.
    """
    counted = (*HEAVY, *INTEGER, *_BLOCKS)
    graph = inferred(onnx.load(path))
    types = _types(graph)
    typed = [*_typed_graph(graph, types), *_typed_bodies(graph, types)]
    return dict(Counter(dtype for node, dtype in typed if not heavy or node.op_type in counted))


def count_initializers(path: Path) -> dict[str, int]:
    """{type: weights stored in it}."""
    graph = onnx.load(path, load_external_data=False).graph
    return dict(Counter(dtype_name(t.data_type) for t in graph.initializer))


def count_weights(path: Path) -> dict[str, int]:
    """{type: heavy nodes that compute in it}, by their weights: needs no inference, so any operator domain will do."""
    graph = onnx.load(path, load_external_data=False).graph
    nodes = list(nodes_within(graph.node))
    integer = sum(n.op_type in INTEGER for n in nodes)
    inside = (g for n in nodes for g in inner_graphs(n))
    types = {t.name: dtype_name(t.data_type) for g in (graph, *inside) for t in g.initializer}
    heavy = (n for n in nodes if n.op_type in HEAVY)
    found = (next((types[i] for i in n.input if i in types), None) for n in heavy)
    return dict(Counter(t for t in found if t is not None)) | ({"int8": integer} if integer else {})


def given_types(model: onnx.ModelProto) -> dict[str, str]:
    """{node: type} of all that computes in another floating point type than float32 before anything lowers it."""
    return {n.name: t for n, t in _typed_nodes(model) if t in _FLOATS and t != "float32"}


def check_delivered(path: Path, asked: str, keep: KeepField, scope: str = "all", given: Collection[str] = ()) -> None:
    """Raise PrecisionError unless every heavy node that is neither kept nor `given` in its type computes in `asked`.

    A graph without heavy nodes must compute in it somewhere, unless the `scope` of the precision is heavy nodes.
    """
    kept = {*kept_nodes(onnx.load(path), keep), *given}
    typed = [(n, t) for n, t in _typed(path) if n.name not in kept]
    heavy = [(n, t) for n, t in typed if n.op_type in HEAVY]
    wrong = [(n, t) for n, t in heavy if t != asked]
    if wrong:
        node, got = wrong[0]
        raise PrecisionError(
            f"asked {asked}, but {len(wrong)} of {len(heavy)} heavy nodes are not: "
            f"{node.name} ({node.op_type}) is {got}",
            "++component.<name>.keep.nodes=[…] names them, if that is intended",
        )
    if scope == "all" and typed and not heavy and not any(t == asked for _, t in typed):
        raise PrecisionError(f"asked {asked}, but no node of the graph computes in it", "it is in float32 throughout")


def check_quantized(exported: Path, lowered: Path, asked: str, policy: QuantizeField, keep: KeepField) -> None:
    """Raise PrecisionError unless every node that the policy chooses, and no other, computes in `asked`."""
    chosen = set(chosen_nodes(onnx.load(exported), policy, keep))
    types = {n.name: t for n, t in _typed(lowered) if n.op_type in HEAVY}
    wrong = [n for n in sorted(chosen) if types.get(n) != asked]
    if wrong:
        got = types.get(wrong[0], "no node of the lowered graph")
        fact = f"asked {asked}, but {len(wrong)} of {len(chosen)} nodes are not: {wrong[0]} is {got}"
        raise PrecisionError(fact, "++component.<name>.quantize.exclude=[…] leaves them out, if that is intended")
    extra = [n for n, t in types.items() if t == asked and n not in chosen]
    if extra:
        fact = f"{extra[0]} computes in {asked}, which the policy leaves out"
        raise PrecisionError(fact, "the lowering does not follow quantize.include and exclude")


def heavy_types(model: onnx.ModelProto) -> dict[str, str]:
    """{node: type it computes in} of every convolution and matrix product."""
    return {n.name: t for n, t in _typed_nodes(model) if n.op_type in HEAVY}


def _typed(path: Path) -> list[tuple[onnx.NodeProto, str]]:
    """Every node that computes in floating point, with the type it does so in."""
    return _typed_nodes(onnx.load(path))


def _typed_nodes(model: onnx.ModelProto) -> list[tuple[onnx.NodeProto, str]]:
    graph = inferred(model)
    return _typed_graph(graph, _types(graph))


def _typed_bodies(graph: onnx.GraphProto, around: Mapping[str, str]) -> Iterator[tuple[onnx.NodeProto, str]]:
    """The same for bodies of If, Loop and Scan, which no precision is asked of."""
    for node in graph.node:
        for inner in inner_graphs(node):
            types = {**around, **_types(inner)}
            yield from _typed_graph(inner, types)
            yield from _typed_bodies(inner, types)


def _types(graph: onnx.GraphProto) -> dict[str, str]:
    types = {t.name: dtype_name(t.data_type) for t in graph.initializer}
    for value in (*graph.value_info, *graph.input, *graph.output):
        types[value.name] = dtype_name(value.type.tensor_type.elem_type)
    return types


def _typed_graph(graph: onnx.GraphProto, types: Mapping[str, str]) -> list[tuple[onnx.NodeProto, str]]:
    dequantized = {n.output[0]: types.get(n.input[0], "") for n in graph.node if n.op_type == "DequantizeLinear"}
    for n in graph.node:  # a lifted convolution reads its values through these
        if n.op_type in ("Unsqueeze", "Squeeze", "Reshape") and n.input[0] in dequantized:
            dequantized[n.output[0]] = dequantized[n.input[0]]
    found = []
    for node in graph.node:
        if node.op_type in _NEUTRAL:
            continue
        if (few := _few_bits(node)) is not None:
            found.append((node, few))
            continue
        stored = {QUANTIZED.get(dequantized.get(i, "")) for i in node.input[:2]}
        if node.op_type in HEAVY and len(stored) == 1 and (quantized := stored.pop()):
            found.append((node, quantized))
            continue
        dtype = next((types[o] for o in node.output if types.get(o) in _FLOATS), None)
        if dtype is None and node.op_type in HEAVY and not any(types.get(o) for o in node.output):
            # no inference for its domain: its weights tell, and where there are none, nobody can vouch for it
            dtype = next((types[i] for i in node.input if types.get(i) in _FLOATS), "of unknown type")
        if dtype is not None:
            found.append((node, dtype))
    return found


def _few_bits(node: onnx.NodeProto) -> str | None:
    """What an operator computes in that is quantized by its kind, as files that come quantized have them."""
    if node.op_type in _BLOCKS:
        return f"int{next((a.i for a in node.attribute if a.name == 'bits'), 4)}"
    return "int8" if node.op_type in INTEGER else None
