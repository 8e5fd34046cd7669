"""Convolutions that read one tensor as one convolution: fewer, larger kernels."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass

import numpy as np
import onnx

from autovoice.onnx_tools.passes.constants import spatial
from autovoice.onnx_tools.passes.editor import LEAST_OPSET, Array, Editor, attributes


def merge_parallel_convs(model: onnx.ModelProto) -> int:
    """Join convolutions of one tensor that differ in weights alone; returns how many are gone."""
    editor = Editor(model)
    if editor.opset < LEAST_OPSET:
        return 0
    groups: dict[Hashable, list[_Conv]] = {}
    for conv in _convolutions(editor):
        groups.setdefault(conv.key, []).append(conv)
    several = [group for group in groups.values() if len(group) > 1]
    for group in several:
        _merge(editor, group)
    if several:
        editor.finish()
    return sum(len(group) - 1 for group in several)


@dataclass(frozen=True)
class _Conv:
    """A convolution with constant weights: stored ones, or quantized ones with a scale for each output channel."""

    node: onnx.NodeProto
    key: Hashable
    weight: Array
    scale: Array | None
    zero: Array | None
    bias: Array | None

    @property
    def channels(self) -> int:
        return int(self.weight.shape[0])


def _convolutions(editor: Editor) -> Iterator[_Conv]:
    for node in editor.nodes:
        if node.op_type == "Conv" and node.domain in ("", "ai.onnx") and attributes(node).get("group", 1) == 1:
            conv = _read(editor, node)
            if conv is not None:
                yield conv


def _read(editor: Editor, node: onnx.NodeProto) -> _Conv | None:
    dequantize, name = editor.made_by.get(node.input[1]), node.input[1]
    scale = zero = bias = None
    if dequantize is not None and dequantize.op_type == "DequantizeLinear":
        name = dequantize.input[0]
        scale = editor.stored(dequantize.input[1])
        if scale is None or (scale.size > 1 and attributes(dequantize).get("axis", 1) != 0):
            return None
        if len(dequantize.input) > 2 and dequantize.input[2]:
            zero = editor.stored(dequantize.input[2])
            if zero is None:
                return None
        if attributes(dequantize).keys() - {"axis"}:
            return None
    weight = editor.stored(name)
    if weight is None or weight.ndim < 3 or editor.stored(node.input[0]) is not None:
        return None
    if len(node.input) > 2 and node.input[2]:
        bias = editor.stored(node.input[2])
        if bias is None:
            return None
    window = tuple((k, str(v)) for k, v in spatial(node, weight.ndim - 2).items())
    kinds = (weight.dtype, scale is None or scale.dtype, None if zero is None else zero.dtype)
    key = (_origin(editor, node.input[0]), window, weight.shape[1:], kinds)
    return _Conv(node, key, weight, scale, zero, bias)


def _origin(editor: Editor, name: str) -> Hashable:
    """The same for two tensors of one value: a name, or what is quantized and how."""
    back = editor.made_by.get(name)
    there = editor.made_by.get(back.input[0]) if back is not None and back.op_type == "DequantizeLinear" else None
    if back is None or there is None or there.op_type != "QuantizeLinear":
        return name
    steps = []
    for node in (there, back):
        constants = [editor.stored(other) for other in node.input[1:] if other]
        if any(c is None for c in constants):
            return name
        kept = sorted((k, str(v)) for k, v in attributes(node).items())
        steps.append((tuple((c.dtype, c.shape, c.tobytes()) for c in constants if c is not None), tuple(kept)))
    return (_origin(editor, there.input[0]), *steps)


def _merge(editor: Editor, group: list[_Conv]) -> None:
    first = group[0].node
    name = "+".join(c.node.name for c in group)
    weight = _weight(editor, group, name)
    made = editor.fresh(f"{group[0].node.output[0]}_merged")
    reads = [first.input[0], weight]
    if any(c.bias is not None for c in group):
        kind = next(c.bias.dtype for c in group if c.bias is not None)
        biases = [np.zeros(c.channels, kind) if c.bias is None else c.bias for c in group]
        reads.append(editor.add(np.concatenate(biases), f"{name}.bias"))
    editor.drop(c.node for c in group)
    conv = editor.insert("Conv", reads, [made], name)
    conv.attribute.extend(first.attribute)
    parts = [part for c in group for part in _parts(editor, c)]
    sizes = editor.numbers([size for _, size in parts], f"{name}_sizes")
    editor.insert("Split", [made, sizes], [output for output, _ in parts], f"{name}_split", axis=1)


def _weight(editor: Editor, group: list[_Conv], name: str) -> str:
    stored = editor.add(np.concatenate([c.weight for c in group]), f"{name}.weight")
    if group[0].scale is None:
        return stored
    scales = [np.broadcast_to(c.scale.reshape(-1), c.channels) for c in group if c.scale is not None]
    reads = [stored, editor.add(np.concatenate(scales), f"{name}.weight_scale")]
    if group[0].zero is not None:
        zeros = [np.broadcast_to(c.zero.reshape(-1), c.channels) for c in group if c.zero is not None]
        reads.append(editor.add(np.concatenate(zeros), f"{name}.weight_zero"))
    made = editor.fresh(f"{name}.weight_back")
    editor.insert("DequantizeLinear", reads, [made], f"{name}.weight_dequantize", axis=0)
    return made


def _parts(editor: Editor, conv: _Conv) -> list[tuple[str, int]]:
    """The tensors that a convolution's channels become, in order: its output, or the parts in which that is read."""
    output = conv.node.output[0]
    readers = editor.readers.get(output, [])
    if output not in editor.pinned and len(readers) == 1 and readers[0][0].op_type == "Split":
        split = readers[0][0]
        sizes = split_sizes(editor, split, conv.channels)
        if sizes is not None and attributes(split).get("axis", 0) in (1, 1 - conv.weight.ndim):
            editor.drop([split])
            return list(zip(split.output, sizes, strict=True))
    return [(output, conv.channels)]


def split_sizes(editor: Editor, split: onnx.NodeProto, whole: int) -> list[int] | None:
    """How long the parts of a Split of an axis of length `whole` are; None where that is not constant."""
    if len(split.input) > 1 and split.input[1]:
        sizes = editor.stored(split.input[1])
        return None if sizes is None else [int(n) for n in sizes]
    n = len(split.output)
    part = -(-whole // n)
    return [part] * (n - 1) + [whole - part * (n - 1)]
