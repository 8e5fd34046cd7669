"""1x1 convolutions folded into the convolutions whose sum they read: P(m · Σ Wᵢxᵢ) = m · Σ (PWᵢ)xᵢ.

In a WaveNet that is its last convolution, which reads the masked sum of what all layers skip to the end.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import onnx

from autovoice.onnx_tools.passes.channels import Channels
from autovoice.onnx_tools.passes.constants import Constants, spatial
from autovoice.onnx_tools.passes.editor import LEAST_OPSET, Array, Editor, attributes


def compose_convs(model: onnx.ModelProto) -> int:
    """Fold 1x1 convolutions into those before them where that costs no multiplication; returns how many are gone."""
    editor = Editor(model)
    pointwise = [n for n in editor.nodes if _is_1x1(editor, n)]
    if editor.opset < LEAST_OPSET or not pointwise:
        return 0
    channels = Channels(editor, Constants(editor), editor.shapes())
    gone = sum(_fold(channels, conv) for conv in pointwise)
    if gone:
        editor.finish()
    return gone


@dataclass
class _Sum:
    """What a linear tensor is a sum of: channels of convolutions, each [first, last) of a node's output."""

    tensors: list[str] = field(default_factory=list)  # all between, whose channels change
    leaves: list[tuple[onnx.NodeProto, onnx.NodeProto | None, int]] = field(default_factory=list)
    #: a leaf that nothing scales on the way, which can take a bias
    plain: int | None = None


def _is_1x1(editor: Editor, node: onnx.NodeProto) -> bool:
    if not _is_plain(editor, node):
        return False
    weight = editor.stored(node.input[1])
    assert weight is not None
    window = spatial(node, weight.ndim - 2)
    return weight[0, 0].size == 1 and set(window["strides"]) == {1} and not any(window["pads"])


def _is_plain(editor: Editor, node: onnx.NodeProto) -> bool:
    """Whether a node is a convolution in one group with stored weights of floats and none or a stored bias."""
    if node.op_type != "Conv" or node.domain not in ("", "ai.onnx") or attributes(node).get("group", 1) != 1:
        return False
    stored = [editor.stored(name) for name in node.input[1:] if name]
    return all(s is not None and s.dtype in (np.float32, np.float16, np.float64) for s in stored)


def _fold(channels: Channels, conv: onnx.NodeProto) -> bool:
    editor = channels.editor
    found = _Sum()
    weight = editor.stored(conv.input[1])
    assert weight is not None
    outside, inside = weight.shape[:2]
    if outside > inside or not _collect(channels, conv.input[0], inside, found, True):
        return False
    if len({id(leaf) for leaf, _, _ in found.leaves}) < len(found.leaves):
        return False  # two parts of one convolution: their places would move under each other
    bias = editor.stored(conv.input[2]) if len(conv.input) > 2 and conv.input[2] else None
    matrix = weight.reshape(outside, inside)
    for i, (leaf, split, part) in enumerate(found.leaves):
        _compose(channels, leaf, split, part, matrix, bias if i == found.plain else None)
    for name in found.tensors:
        shape = channels.shapes[name]
        channels.shapes[name] = (shape[0], outside, *shape[2:])
        editor.changed(name)
    last = max((leaf for leaf, _, _ in found.leaves), key=editor.nodes.index)
    last.name = f"{last.name}+{conv.name}"
    _replace(channels, conv, bias if found.plain is None else None)
    return True


def _collect(channels: Channels, name: str, n: int, found: _Sum, unscaled: bool) -> bool:
    """Whether a tensor that one node reads is a sum of convolutions, scaled by what has one channel."""
    editor = channels.editor
    node = editor.made_by.get(name)
    if node is None or node.domain not in ("", "ai.onnx") or channels.count(name) != n or not _read_once(editor, name):
        return False
    found.tensors.append(name)
    if node.op_type in ("Add", "Sum", "Sub"):
        signed = node.op_type == "Sub"
        return all(_collect(channels, x, n, found, unscaled and not (signed and i)) for i, x in enumerate(node.input))
    if node.op_type == "Mul":
        scaled = [x for x in node.input if channels.count(x) == n]
        others = [x for x in node.input if _has_one_channel(channels, node, x)]
        return len(scaled) == len(others) == 1 and _collect(channels, scaled[0], n, found, False)
    split, part = None, 0
    if node.op_type == "Split":
        split, part = node, list(node.output).index(name)
        whole = node.input[0]
        sizes = channels.parts(node)
        if not sizes or not _read_once(editor, whole) or whole not in editor.made_by:
            return False
        node = editor.made_by[whole]
    if not _is_plain(editor, node):
        return False
    if unscaled and found.plain is None:
        found.plain = len(found.leaves)
    found.leaves.append((node, split, part))
    return True


def _read_once(editor: Editor, name: str) -> bool:
    return name not in editor.pinned and len(editor.readers.get(name, ())) == 1


def _has_one_channel(channels: Channels, node: onnx.NodeProto, name: str) -> bool:
    stored = channels.constants.shape(name)
    if stored is not None:
        rank = len(channels.shapes[node.output[0]])
        return len(stored) <= rank and channels.constant_axis(node, name) is None
    return channels.count(name) == 1 and len(channels.shapes[name]) == len(channels.shapes[node.output[0]])


def _compose(
    channels: Channels, leaf: onnx.NodeProto, split: onnx.NodeProto | None, part: int, matrix: Array, bias: Array | None
) -> None:
    """Let a convolution, or the part of its channels that a Split takes, make `matrix` times what it made."""
    editor = channels.editor
    weight = editor.stored(leaf.input[1])
    assert weight is not None
    sizes = channels.parts(split) if split is not None else None
    sizes = sizes or [weight.shape[0]]
    first = sum(sizes[:part])
    rows = slice(first, first + sizes[part])
    old = editor.stored(leaf.input[2]) if len(leaf.input) > 2 and leaf.input[2] else None
    made = _times(matrix, weight, rows)
    leaf.input[1] = editor.add(made, f"{leaf.input[1]}_composed", instead_of=leaf.input[1])
    if old is not None or bias is not None:
        whole = np.zeros(weight.shape[0], weight.dtype) if old is None else old
        more = _times(matrix, whole, rows)
        if bias is not None:
            more[first : first + len(bias)] += bias
        if old is not None:
            leaf.input[2] = editor.add(more, f"{leaf.input[2]}_composed", instead_of=leaf.input[2])
        else:
            del leaf.input[2:]
            leaf.input.append(editor.add(more, f"{leaf.name}.bias"))
    if split is not None:
        whole_name = split.input[0]
        sizes[part] = matrix.shape[0]
        del split.input[1:]
        split.input.append(editor.numbers(sizes, f"{split.name}_sizes"))
        for attribute in [a for a in split.attribute if a.name == "num_outputs"]:
            split.attribute.remove(attribute)
        shape = channels.shapes[whole_name]
        channels.shapes[whole_name] = (shape[0], sum(sizes), *shape[2:])
        editor.changed(whole_name)


def _times(matrix: Array, values: Array, rows: slice) -> Array:
    """`values` with these rows of it multiplied by a matrix from the left."""
    taken = values[rows].astype(np.float64)
    product = np.tensordot(matrix.astype(np.float64), taken, 1).astype(values.dtype)
    return np.concatenate([values[: rows.start], product, values[rows.stop :]])


def _replace(channels: Channels, conv: onnx.NodeProto, bias: Array | None) -> None:
    """What a convolution made is what it reads now, and its bias."""
    editor = channels.editor
    read, made = conv.input[0], conv.output[0]
    editor.drop([conv])
    if bias is not None:
        shape = (len(bias), *[1] * (len(channels.shapes[read]) - 2))
        editor.insert("Add", [read, editor.add(bias.reshape(shape), f"{conv.name}.bias")], [made], f"{conv.name}_bias")
    elif made in editor.pinned:
        node = editor.made_by[read]
        node.output[list(node.output).index(read)] = made
    else:
        editor.read_instead(made, read)
    editor.index()
