"""float32 graph → bfloat16 arithmetic in the nodes that carry it, float32 between them."""

from __future__ import annotations

from collections.abc import Mapping, Set

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from autovoice.onnx_tools.graph import reads_of
from autovoice.onnx_tools.guard import inferred
from autovoice.onnx_tools.io import HEAVY


def bfloat16_from_float32(model: onnx.ModelProto, kept: Set[str]) -> onnx.ModelProto:
    """Cast the inputs of every heavy node to bfloat16 and its outputs back; its weights are stored so.

    Activation functions, norms and sums stay float32: bfloat16's 8 bits of mantissa gain nothing there.
    Weights that a kept node shares are stored twice.
    """
    graph = model.graph
    weights = {t.name: t for t in graph.initializer}
    known = inferred(model)
    types = {v.name: v.type.tensor_type.elem_type for v in (*known.value_info, *known.input, *known.output)}
    stored: dict[str, str] = {}
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        if node.op_type not in HEAVY or node.name in kept or not _float32(node.output[0], types):
            nodes.append(node)
            continue
        for i, name in enumerate(node.input):
            if not name:
                continue
            if name in weights:
                if weights[name].data_type == TensorProto.FLOAT:
                    node.input[i] = stored.setdefault(name, f"{name}_bf16")
            elif _float32(name, types):
                cast = f"{node.name}_in{i}_bf16"
                nodes.append(helper.make_node("Cast", [name], [cast], f"{cast}_cast", to=TensorProto.BFLOAT16))
                node.input[i] = cast
        outputs = [(i, name) for i, name in enumerate(node.output) if name]
        nodes.append(node)
        for i, name in outputs:
            node.output[i] = f"{name}_bf16"
            back = f"{node.name}_out{i}_f32"
            nodes.append(helper.make_node("Cast", [node.output[i]], [name], back, to=TensorProto.FLOAT))
    for name, new in stored.items():
        graph.initializer.append(_bfloat16(weights[name], new))
    made = [onnx.NodeProto.FromString(n.SerializeToString()) for n in nodes]
    del graph.node[:], graph.value_info[:]
    graph.node.extend(made)
    used = reads_of(graph)
    kept_weights = [onnx.TensorProto.FromString(t.SerializeToString()) for t in graph.initializer if t.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept_weights)
    return model


def _float32(name: str, types: Mapping[str, int]) -> bool:
    """Lengths and indices are not; a value of unknown type is taken for one."""
    return bool(types.get(name, TensorProto.FLOAT) == TensorProto.FLOAT)


def _bfloat16(tensor: onnx.TensorProto, name: str) -> onnx.TensorProto:
    """Round to nearest even, as hardware does: bfloat16 is the upper half of a float32."""
    bits = numpy_helper.to_array(tensor).astype(np.float32).view(np.uint32).astype(np.uint64)
    rounded = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
    return helper.make_tensor(name, TensorProto.BFLOAT16, list(tensor.dims), rounded.tobytes(), raw=True)
