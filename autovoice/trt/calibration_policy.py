"""What a network that its builder may quantize must not compute in int8: what the policy leaves out, and what it keeps."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import onnx

from autovoice.errors import BuildError
from autovoice.lowering.exclude import kept_nodes
from autovoice.lowering.policy import chosen_nodes, quantizable

#: operators that make much of a small error in what they read; of the others that are no product, the builder may
#: carry 8-bit values through: activations, sums, pooling, and all that only moves values
DELICATE = frozenset(
    """Acos Acosh Asin Asinh Atan Atanh Cos Cosh CumSum Div Erf Exp Gelu GroupNormalization InstanceNormalization
    LayerNormalization Log LogSoftmax LpNormalization Mean MeanVarianceNormalization Mish Mod Pow RMSNormalization
    Reciprocal ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMean ReduceProd ReduceSum ReduceSumSquare
    SimplifiedLayerNormalization Sin Sinh Softmax Softplus Sqrt Tan""".split()
)
#: layers that compute nothing: a type of theirs is a conversion, or an error
_NEUTRAL = ("CONSTANT", "CAST", "IDENTITY", "SHAPE", "QUANTIZE", "DEQUANTIZE")
_FLOATS = ("FLOAT", "HALF")

Held = dict[str, str]


def held_nodes(model: Path, policy: Mapping[str, Any], keep: Mapping[str, Any], float16: bool) -> Held:
    """Node of the graph → the type that it computes in instead of int8."""
    graph = onnx.load(model)
    kept, high = set(kept_nodes(graph, keep)), "float16" if float16 else "float32"
    chosen, products = set(chosen_nodes(graph, policy, keep)), {n.name for n in quantizable(graph)}
    held: Held = {}
    for node in graph.graph.node:
        if node.name in kept:
            held[node.name] = "float32"
        elif node.op_type in DELICATE or (node.name in products and node.name not in chosen):
            held[node.name] = high
    return held


def hold(module: ModuleType, network: Any, held: Held, must: Collection[str]) -> int:
    """Set the types of the layers of those nodes; how many layers. Raises BuildError where one that `must` is not there.

    Others may be gone: the parser folds what is constant.
    """
    types = {"float16": module.DataType.HALF, "float32": module.DataType.FLOAT}
    count, missing = 0, set(must) & held.keys()
    for layer in (network.get_layer(i) for i in range(network.num_layers)):
        nodes = nodes_of(layer)
        missing.difference_update(nodes)
        wanted = {held[n] for n in nodes if n in held}
        if wanted and layer.type.name not in _NEUTRAL:
            count += _hold(layer, types["float32" if "float32" in wanted else "float16"])
    if missing:
        fact = f"the network has no layer of node '{min(missing)}', which the policy keeps out of int8"
        raise BuildError(fact, "precision=int8 quantizes by explicit pairs, and needs no such layer")
    return count


def unscaled(network: Any, scales: Iterable[str]) -> tuple[int, int]:
    """Of the tensors that heavy layers read: how many there are, and how many of them have no scale."""
    known, reads = set(scales), set()
    for layer in (network.get_layer(i) for i in range(network.num_layers)):
        if layer.type.name in _HEAVY:
            reads.add(layer.get_input(0).name)
    return len(reads), len(reads - known)


def nodes_of(layer: Any) -> tuple[str, ...]:
    """The ONNX nodes that a layer was made of; its own name where the parser says nothing."""
    return tuple(re.findall(r"\[ONNX Layer: ([^\]]+)\]", layer.metadata or "")) or (layer.name,)


def _hold(layer: Any, dtype: Any) -> bool:
    floats = [i for i in range(layer.num_outputs) if layer.get_output(i).dtype.name in _FLOATS]
    if not floats:  # it computes shapes or positions
        return False
    layer.precision = dtype
    for i in floats:
        layer.set_output_type(i, dtype)
    return True


_HEAVY = ("CONVOLUTION", "DECONVOLUTION", "MATRIX_MULTIPLY")
