"""8-bit integers for ONNX Runtime on a CPU: U8 activations, S8 weights, in the form its kernels are fast at."""

from __future__ import annotations

import glob
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from autovoice.errors import LoweringError, nearest
from autovoice.onnx_tools.graph import captured, outputs_by_nodes, rename_reads, sort_nodes
from autovoice.onnx_tools.guard import guarded, invalid
from autovoice.onnx_tools.io import at_opset, save
from autovoice.onnx_tools.lowering.bodies import bodies_note
from autovoice.onnx_tools.lowering.policy import chosen_nodes
from autovoice.onnx_tools.ranges import Ranges, read_ranges
from autovoice.store.atomic import link_or_copy
from autovoice.terminal.overrides import setting

if TYPE_CHECKING:
    from autovoice.spec.fields import KeepField, QuantizeField

#: the first with a scale for each channel
_OPSET = 13

#: what ONNX Runtime has integer kernels for that write float32
_FLOAT_OUTPUT = ["MatMul", "Gemm"]


def to_u8s8(
    source: Path,
    target: Path,
    keep: KeepField,
    quantize: QuantizeField,
    ranges: Path | None,
    bias: bool = True,
) -> dict[str, Any]:
    """Q/DQ pairs around the chosen nodes, by ONNX Runtime's quantizer, with the scales that `ranges` give.

    Activations are uint8 with a zero point, weights int8, symmetric, a scale for each output channel; `bias` int32.
    Outputs of convolutions are quantized too, since only so does ONNX Runtime fuse them into integer operators;
    those of matrix products stay float, which its kernels can write. Nodes that are not quantized read float32
    values wherever there are any. Deterministic: the same ranges give the same bytes.
    """
    model = onnx.load(source)
    nodes = chosen_nodes(model, quantize, keep)
    model = at_opset(model, _OPSET) if nodes else model
    if not nodes:
        link_or_copy(source, target)
        return {"quantized": []}
    assert ranges is not None
    lowered = _quantized(model, nodes, read_ranges(ranges), bias)
    fault = invalid(lowered)
    if fault is not None:
        raise LoweringError(
            f"the int8 graph is not a valid model: {fault}"[:400], f"leave out the node it names: {_LEAVE}"
        )
    save(lowered, target)
    return {"quantized": nodes, **bodies_note(model.graph)}


_LEAVE = "++component.<name>.quantize.exclude=[…]"


def _quantized(model: onnx.ModelProto, nodes: list[str], ranges: Ranges, bias: bool) -> onnx.ModelProto:
    from onnxruntime.quantization import CalibrationMethod, QuantType
    from onnxruntime.quantization.calibrate import TensorsData
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

    outputs_by_nodes(model.graph)
    chosen = [n for n in model.graph.node if n.name in set(nodes)]
    weights = {t.name: len(t.dims) for t in model.graph.initializer}
    _check_ranges(chosen, weights, ranges)
    _keep_shared(model.graph, chosen, weights)
    odd = any(_odd_bias(n, model) for n in chosen)
    whole = {"quant_type": QuantType.QInt8, "symmetric": True}  # one scale
    data = {t: (np.float32(low), np.float32(high)) for t, (low, high) in ranges.items()}
    with guarded("onnxruntime's quantizer", f"leave out nodes: {_LEAVE}"):
        quantizer = QDQQuantizer(
            model,
            per_channel=True,
            reduce_range=False,
            weight_qType=QuantType.QInt8,
            activation_qType=QuantType.QUInt8,
            tensors_range=TensorsData(CalibrationMethod.MinMax, data),
            nodes_to_quantize=nodes,
            nodes_to_exclude=[],
            op_types_to_quantize=sorted({n.op_type for n in chosen}),
            extra_options={
                "ActivationSymmetric": False,
                "WeightSymmetric": True,
                "QuantizeBias": bias and not odd,
                "QDQDisableWeightAdjustForInt32Bias": odd,  # which takes such a bias apart, and fails
                "TensorQuantOverrides": {w: [dict(whole)] for w in _stacked(chosen, weights)},
                "OpTypesToExcludeOutputQuantization": _FLOAT_OUTPUT,
            },
        )
        quantizer.quantize_model()
    made: onnx.ModelProto = quantizer.model.model
    _float_outputs(made.graph, set(nodes))
    _read_floats(made.graph, set(nodes))
    sort_nodes(made.graph)  # the quantizer appends its nodes at the end
    return made


def _check_ranges(chosen: Iterable[onnx.NodeProto], weights: Collection[str], ranges: Ranges) -> None:
    for node in chosen:
        for tensor in (*node.input[:2], *(node.output if node.op_type not in _FLOAT_OUTPUT else ())):
            if tensor not in weights and tensor not in ranges:
                fix = f"calibrate it, or leave the node out; {nearest(tensor, ranges)[:300]}"
                raise LoweringError(f"node '{node.name}' needs a range of '{tensor}', and there is none", fix)


def _stacked(chosen: Iterable[onnx.NodeProto], weights: Mapping[str, int]) -> list[str]:
    """Weights of products that are stacks of matrices, or stand on the left: there the kernels take one scale."""
    products = [n for n in chosen if n.op_type == "MatMul"]
    right = {n.input[1] for n in products if weights.get(n.input[1], 0) > 2}
    return sorted(right | {n.input[0] for n in products if n.input[0] in weights})


def _odd_bias(node: onnx.NodeProto, model: onnx.ModelProto) -> bool:
    """True for a Gemm whose third input is no plain bias, one number an output: it has to stay float32."""
    if node.op_type != "Gemm" or len(node.input) < 3:
        return False
    attributes = {a.name: a for a in node.attribute}
    if "beta" in attributes and attributes["beta"].f != 1:  # ONNX Runtime's integer kernel would leave it out
        fix = setting("++component.<name>.quantize.exclude", [glob.escape(node.name)])
        raise LoweringError(f"node '{node.name}' scales its bias (beta), which has no int8 form", fix)
    shapes = {t.name: tuple(t.dims) for t in model.graph.initializer}
    weight, bias = shapes.get(node.input[1]), shapes.get(node.input[2])
    transposed = "transB" in attributes and attributes["transB"].i
    return weight is None or bias != (weight[0 if transposed else 1],)


def _keep_shared(graph: onnx.GraphProto, chosen: Iterable[onnx.NodeProto], weights: Collection[str]) -> None:
    """Give nodes that stay float a copy of every weight that a chosen node reads too: the quantizer has one for all.

    Every further chosen node gets one as well: on some processors ONNX Runtime rewrites a weight for each reader, and
    fails at the second.
    """
    quantized = {n.name for n in chosen}
    shared = {i for n in graph.node if n.name in quantized for i in n.input if i in weights}
    for tensor in [t for t in graph.initializer if t.name in shared]:
        first, *others = [n for n in graph.node if n.name in quantized and tensor.name in n.input]
        floats = [n for n in graph.node if n.name not in quantized and tensor.name in {*n.input, *captured(n)}]
        copies = {f"{tensor.name}_float": floats}
        copies |= {f"{tensor.name}_{first.name}_{i}": [node] for i, node in enumerate(others)}
        for name, readers in copies.items():
            if readers:
                copy = graph.initializer.add()
                copy.CopyFrom(tensor)
                copy.name = name
            rename_reads(readers, {tensor.name: name})


def _float_outputs(graph: onnx.GraphProto, quantized: set[str]) -> None:
    """Let an output of the graph that no quantized node makes be what was made, not its rounded copy."""
    made = {o: n for n in graph.node for o in n.output}
    for output in graph.output:
        source = _before(output.name, made)
        if source is None or source not in made or made[source].name in quantized:
            continue
        renamed = {source: output.name, output.name: f"{output.name}_rounded"}
        rename_reads(graph.node, renamed)
        for node in graph.node:
            node.output[:] = [renamed.get(o, o) for o in node.output]


def _read_floats(graph: onnx.GraphProto, quantized: set[str]) -> None:
    """Let every node that is not quantized read what was there before quantization, in place.

    The quantizer hands the rounded copy of a tensor to all its readers: residual sums and norms among them, which
    lose accuracy and win nothing. The output of a quantized convolution exists in 8 bits alone.
    """
    made = {o: n for n in graph.node for o in n.output}
    for node in graph.node:
        if node.name in quantized or node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            continue
        for i, name in enumerate(node.input):
            source = _before(name, made)
            if source is not None and (source not in made or made[source].name not in quantized):
                node.input[i] = source


def _before(name: str, made: Mapping[str, onnx.NodeProto]) -> str | None:
    """The float tensor that `name` is the rounded copy of; None when it is no such copy."""
    back = made.get(name)
    if back is None or back.op_type != "DequantizeLinear" or back.input[0] not in made:
        return None
    source: str = made[back.input[0]].input[0]
    return source
