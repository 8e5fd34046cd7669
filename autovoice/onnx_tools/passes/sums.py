"""Sums with one part of a large tensor that are taken apart at once: added part by part instead."""

from __future__ import annotations

import onnx

from autovoice.onnx_tools.passes.editor import LEAST_OPSET, Editor, Shape, attributes
from autovoice.onnx_tools.passes.merge import split_sizes


def split_before_sums(model: onnx.ModelProto) -> int:
    """Split(conv + part of a Split) becomes sums of parts, which a pointwise kernel reads where they lie.

    Added to a whole convolution, the part would first have to be copied out of the tensor that it is part of.
    Returns how many sums.
    """
    editor = Editor(model)
    if editor.opset < LEAST_OPSET:
        return 0
    shapes = editor.shapes()
    count = 0
    for split in [n for n in editor.nodes if n.op_type == "Split"]:
        if _pushed(editor, shapes, split):
            count += 1
            editor.index()
    if count:
        editor.finish()
    return count


def _pushed(editor: Editor, shapes: dict[str, Shape], split: onnx.NodeProto) -> bool:
    name = split.input[0]
    add = editor.made_by.get(name)
    if add is None or add.op_type != "Add" or len(editor.readers[name]) != 1 or name in editor.pinned:
        return False
    axis = attributes(split).get("axis", 0)
    whole = [shapes.get(i) for i in add.input]
    if whole[0] is None or whole[1] is None or len(whole[0]) != len(whole[1]) or axis % len(whole[0]) != 1:
        return False
    made = [editor.made_by.get(i) for i in add.input]
    kinds = [m.op_type if m is not None else "" for m in made]
    if sorted(kinds) != ["Conv", "Split"]:
        return False
    conv, part = (add.input[kinds.index(k)] for k in ("Conv", "Split"))
    source = made[kinds.index("Split")]
    channels = whole[kinds.index("Conv")][1]  # type: ignore[index]
    if channels is None or whole[kinds.index("Split")][1] != channels:  # type: ignore[index]
        return False
    sizes = split_sizes(editor, split, channels)
    if source is None or sizes is None or not _refined(editor, shapes, source, part, sizes):
        return False
    axis_of = {"axis": 1}
    parts = [editor.fresh(f"{conv}_part") for _ in sizes]
    pieces = _pieces(source, part, len(sizes))
    editor.drop([split, add])
    editor.insert("Split", [conv, editor.numbers(sizes, f"{conv}_sizes")], parts, f"{split.name}_parts", **axis_of)
    for a, b, output in zip(parts, pieces, split.output, strict=True):
        editor.insert("Add", [a, b], [output], add.name)
    return True


def _refined(editor: Editor, shapes: dict[str, Shape], source: onnx.NodeProto, part: str, sizes: list[int]) -> bool:
    """Let the Split that makes `part` make its pieces at once."""
    shape = shapes.get(source.input[0])
    if shape is None or len(shape) < 2 or shape[1] is None or attributes(source).get("axis", 0) % len(shape) != 1:
        return False
    if len(editor.readers.get(part, [])) != 1 or part in editor.pinned:
        return False
    old = split_sizes(editor, source, shape[1])
    if old is None:
        return False
    at = list(source.output).index(part)
    outputs = [*source.output[:at], *(editor.fresh(f"{part}_piece") for _ in sizes), *source.output[at + 1 :]]
    kept = [a for a in source.attribute if a.name != "num_outputs"]
    del source.attribute[:]
    source.attribute.extend(kept)
    source.input[:] = [source.input[0], editor.numbers([*old[:at], *sizes, *old[at + 1 :]], f"{source.name}_sizes")]
    del source.output[:]
    source.output.extend(outputs)
    return True


def _pieces(source: onnx.NodeProto, part: str, count: int) -> list[str]:
    found = [o for o in source.output if o.startswith(f"{part}_piece")]
    assert len(found) == count
    return found
