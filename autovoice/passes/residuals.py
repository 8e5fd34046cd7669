"""Residual sums that an activation and a later sum both read: made so that one kernel can write what is read."""

from __future__ import annotations

import numpy as np
import onnx

from autovoice.passes.editor import Editor, attributes

#: below it, dividing by a slope would enlarge rounding too much
_LEAST_SLOPE = 0.01


def invert_leaky_residuals(model: onnx.ModelProto) -> int:
    """Let later sums read LeakyRelu(1/a) of what a LeakyRelu(a) made of a residual sum, in place of the sum itself.

    The sum is then read by its activation alone, which a backend computes in the convolution that makes the sum;
    a leaky activation loses nothing, since its inverse is one of the same kind. Returns how many sums.
    """
    editor = Editor(model)
    count = 0
    for node in list(editor.nodes):
        if node.op_type == "Add" and _is_residual(editor, node) and _invert(editor, node.output[0]):
            count += 1
    if count:
        editor.finish()
    return count


def _is_residual(editor: Editor, node: onnx.NodeProto) -> bool:
    made = [editor.made_by.get(name) for name in node.input]
    return any(m is not None and m.op_type == "Conv" for m in made) and node.output[0] not in editor.pinned


def _invert(editor: Editor, name: str) -> bool:
    readers = editor.readers.get(name, [])
    leaky = [n for n, _ in readers if n.op_type == "LeakyRelu"]
    others = [(n, i) for n, i in readers if n.op_type == "Add"]
    if len(leaky) != 1 or not others or len(others) + 1 != len(readers):
        return False
    slope = float(np.float32(attributes(leaky[0]).get("alpha", 0.01)))
    if not _LEAST_SLOPE <= slope <= 1:
        return False
    for node, i in others:  # one each, so that each can be part of the kernel that reads it
        back = editor.fresh(f"{name}_back")
        editor.insert("LeakyRelu", [leaky[0].output[0]], [back], f"{leaky[0].name}_back", alpha=1 / slope)
        node.input[i] = back
    return True
