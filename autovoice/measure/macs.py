"""Multiply-accumulates of the nodes that carry a model's arithmetic: what excluding one of them costs."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

from autovoice.onnx_tools.lowering.policy import quantizable
from autovoice.onnx_tools.ort import float_session


def macs(path: Path, feeds: Mapping[str, np.ndarray]) -> dict[str, int]:
    """{node: multiply-accumulates} of every quantizable node at the sizes of `feeds`.

    Convolution and product: outputs times what each sums over; transposed convolution: inputs times what each
    feeds.
    """
    model = onnx.load(path)
    weights = {t.name: tuple(t.dims) for t in model.graph.initializer}
    nodes = quantizable(model)
    tensors = sorted({t for n in nodes for t in (n.input[0], n.input[1], n.output[0]) if t not in weights})
    shapes = weights | _shapes(model, tensors, feeds)
    return {n.name: _macs(n, shapes) for n in nodes}


def _macs(node: onnx.NodeProto, shapes: Mapping[str, tuple[int, ...]]) -> int:
    x, w, y = (shapes[t] for t in (node.input[0], node.input[1], node.output[0]))
    if node.op_type == "Conv":  # weight [out, in / group, kernel…]
        return prod(y) * prod(w[1:])
    if node.op_type == "ConvTranspose":  # weight [in, out / group, kernel…]
        return prod(x) * prod(w[1:])
    transposed = any(a.name == "transA" and a.i for a in node.attribute)
    return prod(y) * (x[0] if transposed else x[-1])


def _shapes(model: onnx.ModelProto, tensors: list[str], feeds: Mapping[str, np.ndarray]) -> dict[str, tuple[int, ...]]:
    """Sizes as they really are: only the shapes leave the graph."""
    for tensor in tensors:
        model.graph.node.append(helper.make_node("Shape", [tensor], [f"{tensor}__shape"], f"{tensor}__shape_of"))
        model.graph.output.append(helper.make_tensor_value_info(f"{tensor}__shape", TensorProto.INT64, None))
    values = float_session(model).run([f"{t}__shape" for t in tensors], dict(feeds)) if tensors else []
    return {t: tuple(int(n) for n in v) for t, v in zip(tensors, values, strict=True)}
