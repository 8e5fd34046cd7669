"""The nodes that a builder may compute in int8, and those it may not: exclusions of a policy, and what is kept."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Set
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import onnx

from autovoice.errors import BuildError
from autovoice.onnx_tools.lowering.exclude import kept_nodes
from autovoice.onnx_tools.lowering.policy import chosen_nodes, quantizable

if TYPE_CHECKING:
    from autovoice.spec.fields import KeepField, QuantizeField

#: operators that make much of a small error in what they read, beside all reductions and normalizations, and sums of
#: tensors, along which the error of every residual block would add up. Through the others that are no product
#: (activations, pooling, what only moves values) the builder may carry 8-bit values
_DELICATE = (
    *("Cos", "CumSum", "Div", "Erf", "Exp", "Gelu", "Log", "LogSoftmax", "Mean", "Mish", "Mod", "Pow"),
    *("Reciprocal", "Sin", "Softmax", "Softplus", "Sqrt", "Tan"),
)
_SUMS = ("Add", "Sub", "Sum")
#: layers that compute nothing: a type of theirs is a conversion, or an error
_NEUTRAL = ("CONSTANT", "CAST", "IDENTITY", "SHAPE", "QUANTIZE", "DEQUANTIZE")
_FLOATS = ("FLOAT", "HALF")
_CONVOLUTIONS = ("CONVOLUTION", "DECONVOLUTION")
_HEAVY = (*_CONVOLUTIONS, "MATRIX_MULTIPLY")

#: node of the graph → the type it computes in
FloatNodes = dict[str, str]


def float_nodes(
    model: Path, named: Path, policy: QuantizeField, keep: KeepField, float16: bool
) -> tuple[FloatNodes, set[str], set[str]]:
    """What of `model` stays out of int8, which of that are products, and the products that may be in it.

    `named` is the graph whose names the policy knows: in `model`, convolutions may have been merged into `a+b`, which
    is quantized if every part may be.
    """
    graph, known = onnx.load(model), onnx.load(named)
    kept, chosen = set(kept_nodes(known, keep)), set(chosen_nodes(known, policy, keep))
    products, high = {n.name for n in quantizable(graph)}, "float16" if float16 else "float32"
    constant = {i.name for i in graph.graph.initializer}
    constant |= {o for n in graph.graph.node if n.op_type == "Constant" for o in n.output}
    held: FloatNodes = {}
    for node in graph.graph.node:
        parts = (node.name,) if node.name in chosen | kept else tuple(node.name.split("+"))
        if not kept.isdisjoint(parts):
            held[node.name] = "float32"
        elif _delicate(node, constant) or (node.name in products and not chosen.issuperset(parts)):
            held[node.name] = high
    return held, products & held.keys(), products - held.keys()


def hold(module: ModuleType, network: Any, held: FloatNodes, must: Collection[str]) -> int:
    """Set the types of those nodes' layers; how many. Raises BuildError where one that `must` be there is not.

    The rest may be gone: the parser folds what is constant.
    """
    types = {"float16": module.DataType.HALF, "float32": module.DataType.FLOAT}
    count, missing = 0, set(must)
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


def prefer_int8(module: ModuleType, network: Any, products: Set[str], held: FloatNodes) -> int:
    """Ask for int8 in the convolutions of those nodes, but for what is held; how many.

    Not in other products: what TensorRT fuses around them, attention above all, its calibrators do not quantize.
    """
    layers = [network.get_layer(i) for i in range(network.num_layers)]
    found = [
        x
        for x in layers
        if x.type.name in _CONVOLUTIONS and products & set(nodes_of(x)) and held.keys().isdisjoint(nodes_of(x))
    ]
    for layer in found:
        layer.precision = module.DataType.INT8
    return len(found)


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


def _delicate(node: onnx.NodeProto, constant: Collection[str]) -> bool:
    op = node.op_type
    if op in _SUMS:  # a bias is part of the product before it
        return not any(name in constant for name in node.input)
    # and so is a batch normalization
    return op in _DELICATE or op.startswith("Reduce") or (op.endswith("Normalization") and op != "BatchNormalization")


def _hold(layer: Any, dtype: Any) -> bool:
    floats = [i for i in range(layer.num_outputs) if layer.get_output(i).dtype.name in _FLOATS]
    if not floats:  # it computes shapes or positions
        return False
    layer.precision = dtype
    for i in floats:
        if not layer.get_output(i).is_network_output:  # whose type is declared
            layer.set_output_type(i, dtype)
    return True
