"""Tensors that are joined only to be taken apart again at the same places."""

from __future__ import annotations

from itertools import accumulate, pairwise

import onnx

from autovoice.onnx_tools.passes.editor import LEAST_OPSET, Editor, Shape, attributes
from autovoice.onnx_tools.passes.merge import split_sizes


def cancel_concats(model: onnx.ModelProto) -> int:
    """Let what reads parts of a Concat read its inputs, where the parts are whole inputs; returns how many Splits
    are gone."""
    editor = Editor(model)
    if editor.opset < LEAST_OPSET:
        return 0
    gone = 0
    shapes: dict[str, Shape] | None = None
    for split in [n for n in editor.nodes if n.op_type == "Split" and n.domain in ("", "ai.onnx")]:
        concat = editor.made_by.get(split.input[0])
        if concat is not None and concat.op_type == "Concat" and editor.pinned.isdisjoint(split.output):
            shapes = editor.shapes() if shapes is None else shapes
            if _cancel(editor, shapes, concat, split):
                gone += 1
                editor.index()  # a Split of what a Split made reads something else now
    if gone:
        editor.finish()
    return gone


def _cancel(editor: Editor, shapes: dict[str, Shape], concat: onnx.NodeProto, split: onnx.NodeProto) -> bool:
    parts = _parts(editor, shapes, concat, split)
    if parts is None:
        return False
    editor.drop([split])
    for output, names in zip(split.output, parts, strict=True):
        if len(names) == 1:
            editor.read_instead(output, names[0])
        else:
            editor.insert("Concat", names, [output], f"{concat.name}_part", axis=attributes(concat)["axis"])
    return True


def _parts(
    editor: Editor, shapes: dict[str, Shape], concat: onnx.NodeProto, split: onnx.NodeProto
) -> list[list[str]] | None:
    """The inputs of a Concat that each output of a Split of it consists of; None where one is not whole inputs."""
    if any(name not in shapes for name in concat.input):
        return None
    rank = len(shapes[concat.input[0]])
    axis = attributes(concat)["axis"] % rank
    lengths = [shapes[name][axis] for name in concat.input]
    if attributes(split).get("axis", 0) % rank != axis or any(not n for n in lengths):
        return None
    known = [n for n in lengths if n]
    sizes = split_sizes(editor, split, sum(known))
    if sizes is None or not all(sizes):
        return None
    ends = list(accumulate(known))
    wanted = [0, *accumulate(sizes)]
    if not set(wanted[1:]) <= set(ends):
        return None
    places = list(zip(concat.input, ends, strict=True))
    return [[n for n, end in places if a < end <= b] for a, b in pairwise(wanted)]
