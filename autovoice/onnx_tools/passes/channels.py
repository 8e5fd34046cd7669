"""The effect of a node along the channels, axis 1 of its input: what a reversal of them can pass, and how."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx

from autovoice.onnx_tools.passes.constants import Constants
from autovoice.onnx_tools.passes.editor import Editor, Shape, attributes
from autovoice.onnx_tools.passes.merge import split_sizes
from autovoice.onnx_tools.passes.operators import CONVOLUTIONS, POINTWISE, POOLS

#: what becomes of a reversal at a node
FLIP = "flip"  # the node is one
FREE = "free"  # its weights can take it, on either side
SAME = "same"  # it goes through, from what is read to what is made
STOP = "stop"  # nothing is known


@dataclass
class Channels:
    """The channels of a graph's tensors, and what its nodes do along them."""

    editor: Editor
    constants: Constants
    shapes: dict[str, Shape]

    def count(self, name: str) -> int:
        """How many channels a tensor has; 0 where that is unknown, and for constants."""
        shape = self.shapes.get(name, ())
        if len(shape) < 2 or self.constants.shape(name) is not None:
            return 0
        return shape[1] or 0

    def carries(self, name: str) -> bool:
        """Whether a reversal of this tensor's channels is one."""
        return self.count(name) > 1

    def kind(self, node: onnx.NodeProto) -> str:
        op = node.op_type
        if node.domain not in ("", "ai.onnx"):
            return STOP
        if op in ("Slice", "Gather") and self.is_flip(node):
            return FLIP
        if op in CONVOLUTIONS:
            constant = all(self.constants.shape(name) is not None for name in node.input[1:] if name)
            if not constant or not self.count(node.input[0]) or not self.count(node.output[0]):
                return STOP
            return FREE if attributes(node).get("group", 1) == 1 else SAME
        return SAME if self._passes(node) else STOP

    def _passes(self, node: onnx.NodeProto) -> bool:
        if node.op_type in POINTWISE:
            return bool(self.count(node.output[0])) and all(self._broadcasts(node, name) for name in node.input if name)
        if not self.count(node.input[0]) and node.op_type != "Concat":
            return False
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            scale = self.editor.stored(node.input[1])
            return scale is not None and scale.size == 1
        if node.op_type == "Concat":
            return all(self.count(name) or self.constants.shape(name) for name in node.input)
        if node.op_type == "Split":
            return self.parts(node) is not None
        if node.op_type == "Slice":
            axes = self.slice_axes(node)
            return axes is not None and (1 not in axes or self.window(node) is not None)
        return node.op_type in POOLS and len(node.output) == 1

    def _broadcasts(self, node: onnx.NodeProto, name: str) -> bool:
        """Whether a pointwise operator's input is a constant, or has one channel, or those of the output."""
        if self.constants.shape(name) is not None:
            return True
        shape, rank = self.shapes.get(name), len(self.shapes[node.output[0]])
        if shape is None:
            return False
        if len(shape) == rank:
            return shape[1] in (1, self.count(node.output[0]))
        return len(shape) < rank - 1 or shape[0] == 1  # aligned on the right: shorter ones have no channels

    def constant_axis(self, node: onnx.NodeProto, name: str) -> int | None:
        """The axis of a pointwise operator's constant input that runs along the channels; None where none does."""
        shape = self.constants.shape(name)
        axis = 1 - len(self.shapes[node.output[0]]) + len(shape or ())
        return axis if shape and axis >= 0 and shape[axis] > 1 else None

    def axis(self, node: onnx.NodeProto) -> int:
        """The attribute `axis`, counted from the front."""
        return int(attributes(node).get("axis", 0)) % len(self.shapes[node.output[0]])

    def parts(self, split: onnx.NodeProto) -> list[int] | None:
        if self.axis(split) != 1:
            return []
        return split_sizes(self.editor, split, self.count(split.input[0]))

    # -- Slice and Gather ----------------------------------------------------------------------------

    def is_flip(self, node: onnx.NodeProto) -> bool:
        """Whether a node reverses all channels and does nothing else."""
        n = self.count(node.input[0])
        if n < 2:
            return False
        if node.op_type == "Gather":
            indices = self.editor.stored(node.input[1])
            rank = len(self.shapes[node.input[0]])
            along = attributes(node).get("axis", 0) in (1, 1 - rank)
            return along and indices is not None and np.array_equal(indices % n, np.arange(n)[::-1])
        if self.slice_axes(node) != [1] or len(node.input) < 5:
            return False
        start, end, step = (self.editor.stored(node.input[i]) for i in (1, 2, 4))
        if start is None or end is None or step is None or step[0] != -1:
            return False
        return (start[0] == -1 or start[0] >= n - 1) and bool(end[0] < -n)

    def slice_axes(self, node: onnx.NodeProto) -> list[int] | None:
        """The axes that a Slice cuts; None where they are not constant."""
        if len(node.input) > 3 and node.input[3]:
            axes = self.editor.stored(node.input[3])
            return None if axes is None else [int(a) % len(self.shapes[node.input[0]]) for a in axes]
        starts = self.editor.stored(node.input[1])
        return None if starts is None else list(range(len(starts)))

    def window(self, node: onnx.NodeProto) -> tuple[int, int] | None:
        """The channels [first, last) that a Slice takes; None where that is not constant, or not every one of them."""
        where = (self.slice_axes(node) or []).index(1)
        start, end = (self.editor.stored(node.input[i]) for i in (1, 2))
        step = self.editor.stored(node.input[4]) if len(node.input) > 4 and node.input[4] else np.ones(where + 1, int)
        if start is None or end is None or step is None or step[where] != 1:
            return None
        first, last, _ = slice(int(start[where]), int(end[where])).indices(self.count(node.input[0]))
        return first, max(first, last)
