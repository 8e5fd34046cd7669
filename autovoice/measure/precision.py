"""Precision truth: in what types the nodes of a built ONNX file really compute."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx

from autovoice.errors import PrecisionError
from autovoice.lowering.exclude import kept_nodes
from autovoice.onnx_io import HEAVY, dtype_name

_FLOATS = ("float32", "float16", "bfloat16", "float64")
#: these only move or make values
_NEUTRAL = ("Cast", "Constant", "Identity", "Shape")


def count_nodes(path: Path) -> dict[str, int]:
    """{float type: nodes that compute in it}, by the type of each node's first floating point output."""
    return dict(Counter(dtype for _, dtype in _typed(path)))


def count_initializers(path: Path) -> dict[str, int]:
    """{type: weights stored in it}."""
    graph = onnx.load(path, load_external_data=False).graph
    return dict(Counter(dtype_name(t.data_type) for t in graph.initializer))


def count_weights(path: Path) -> dict[str, int]:
    """{type: heavy nodes whose weights are of it}; needs no type inference, so any operator domain will do."""
    graph = onnx.load(path, load_external_data=False).graph
    types = {t.name: dtype_name(t.data_type) for t in graph.initializer}
    heavy = (n for n in graph.node if n.op_type in HEAVY)
    found = (next((types[i] for i in n.input if i in types), None) for n in heavy)
    return dict(Counter(t for t in found if t is not None))


def check_delivered(path: Path, asked: str, keep: Mapping[str, Any], scope: str = "all") -> None:
    """Raise PrecisionError unless every heavy node that is not kept computes in `asked`.

    A graph without heavy nodes must compute in it somewhere, unless the `scope` of the precision is heavy nodes.
    """
    kept = set(kept_nodes(onnx.load(path), keep))
    typed = [(n, t) for n, t in _typed(path) if n.name not in kept]
    heavy = [(n, t) for n, t in typed if n.op_type in HEAVY]
    wrong = [(n, t) for n, t in heavy if t != asked]
    if wrong:
        node, got = wrong[0]
        raise PrecisionError(
            f"asked {asked}, but {len(wrong)} of {len(heavy)} heavy nodes are not: "
            f"{node.name} ({node.op_type}) is {got}",
            "name them in keep.nodes if that is meant",
        )
    if scope == "all" and typed and not heavy and not any(t == asked for _, t in typed):
        raise PrecisionError(f"asked {asked}, but no node of the graph computes in it", "it is in float32 throughout")


def _typed(path: Path) -> list[tuple[onnx.NodeProto, str]]:
    """Every node that computes in floating point, with the type it does so in."""
    graph = onnx.shape_inference.infer_shapes(onnx.load(path)).graph
    types = {t.name: dtype_name(t.data_type) for t in graph.initializer}
    for value in (*graph.value_info, *graph.input, *graph.output):
        types[value.name] = dtype_name(value.type.tensor_type.elem_type)
    found = []
    for node in graph.node:
        if node.op_type in _NEUTRAL:
            continue
        dtype = next((types[o] for o in node.output if types.get(o) in _FLOATS), None)
        if dtype is None and node.op_type in HEAVY and not any(types.get(o) for o in node.output):
            # no inference for its domain: its weights tell, and where there are none, nobody can vouch for it
            dtype = next((types[i] for i in node.input if types.get(i) in _FLOATS), "of unknown type")
        if dtype is not None:
            found.append((node, dtype))
    return found
