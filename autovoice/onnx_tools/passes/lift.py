"""1-D convolutions and all that lies between them as 2-D ones of height 1: TensorRT has no others.

Its parser wraps every 1-D convolution in reshapes, which keep it from being fused with what follows. Here whole
islands, [B, C, T] → [B, C, 1, T], have one Unsqueeze for every tensor that enters and one Squeeze for every one that
leaves.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx

from autovoice.onnx_tools.passes.constants import Constants, Insert
from autovoice.onnx_tools.passes.editor import LEAST_OPSET, Editor, Shape, attributes, set_attribute
from autovoice.onnx_tools.passes.operators import CONVOLUTIONS, POINTWISE, POOLS

#: for each spatial axis: what the attributes of a window are along the new one
_WINDOW = {"kernel_shape": 1, "strides": 1, "dilations": 1, "output_padding": 0, "output_shape": 1}

#: operators with an attribute `axis` that is an axis of their first input
_WITH_AXIS = ("Concat", "Split", "Gather", "QuantizeLinear", "DequantizeLinear", "Softmax", "LogSoftmax")

_RANK = 3


def lift_conv1d(model: onnx.ModelProto) -> int:
    """Make 1-D convolutions 2-D, with the islands they lie in; returns how many."""
    editor = Editor(model)
    if editor.opset < LEAST_OPSET:
        return 0
    lifter = _Lifter(editor, editor.shapes(), Constants(editor))
    island = lifter.island()
    if not island:
        return 0
    lifter.lift(island)
    editor.finish()
    return sum(n.op_type in CONVOLUTIONS for n in island)


@dataclass
class _Lifter:
    editor: Editor
    shapes: dict[str, Shape]
    constants: Constants

    # -- what can be lifted --------------------------------------------------------------------------

    def island(self) -> list[onnx.NodeProto]:
        """Nodes that can be lifted, of those connected sets of them that hold a convolution."""
        able = [n for n in self.editor.nodes if self._able(n)]
        of = {name: i for i, n in enumerate(able) for name in n.output}
        root = list(range(len(able)))

        def find(i: int) -> int:
            while root[i] != i:
                root[i] = root[root[i]]
                i = root[i]
            return i

        for i, node in enumerate(able):
            for name in self._data(node):
                if name in of:
                    root[find(of[name])] = find(i)
        wanted = {find(i) for i, n in enumerate(able) if n.op_type in CONVOLUTIONS}
        return [n for i, n in enumerate(able) if find(i) in wanted]

    def _able(self, node: onnx.NodeProto) -> bool:
        if node.domain not in ("", "ai.onnx") or any(self._rank(name) != _RANK for name in node.output if name):
            return False
        op = node.op_type
        if op in POINTWISE:
            return all(self._rank(name) in range(_RANK + 1) for name in node.input if name)
        if any(self._rank(name) != _RANK for name in self._data(node)):
            return False
        if op in CONVOLUTIONS:
            return self.constants.shape(node.input[0]) is None and len(self.constants.shape(node.input[1]) or ()) == 3
        if op in POOLS:
            return len(node.output) == 1
        if op == "Gather":
            return self._rank(node.input[1]) == 1
        if op in ("QuantizeLinear", "DequantizeLinear"):
            return not attributes(node).get("block_size", 0)
        if op == "Slice":
            return self._sliced_axes(node) is not None
        if op == "Pad":
            return self._padded(node) is not None
        return op in _WITH_AXIS or op == "BatchNormalization"

    def _rank(self, name: str) -> int:
        """-1 where it is not known."""
        constant = self.constants.shape(name)
        if constant is not None:
            return len(constant)
        return len(self.shapes[name]) if name in self.shapes else -1

    def _data(self, node: onnx.NodeProto) -> list[str]:
        """The tensors that a node works on, value by value or along axes."""
        everything = node.op_type in POINTWISE or node.op_type == "Concat"
        return [name for name in (node.input if everything else node.input[:1]) if name]

    def _sliced_axes(self, node: onnx.NodeProto) -> list[int] | None:
        """The axes of a Slice, in its input of rank 3."""
        if len(node.input) > 3 and node.input[3]:
            axes = self.editor.stored(node.input[3])
            return None if axes is None else [int(a) % _RANK for a in axes]
        starts = self.editor.stored(node.input[1])
        return None if starts is None else list(range(len(starts)))

    def _padded(self, node: onnx.NodeProto) -> list[int] | None:
        """What a Pad adds before and after every one of four axes."""
        pads = self.editor.stored(node.input[1])
        axes = self.editor.stored(node.input[3]) if len(node.input) > 3 and node.input[3] else np.arange(_RANK)
        if pads is None or axes is None:
            return None
        full = np.zeros((2, _RANK + 1), np.int64)
        full[:, [_moved(int(a)) for a in axes]] = pads.reshape(2, -1)
        return full.reshape(-1).tolist()

    # -- lifting -----------------------------------------------------------------------------------------

    def lift(self, island: list[onnx.NodeProto]) -> None:
        """Make every node of an island compute in four dimensions."""
        inside = {id(n) for n in island}
        lifted = {name: name for n in island for name in n.output if name}
        for name in lifted:
            read_outside = any(id(n) not in inside for n, _ in self.editor.readers.get(name, ()))
            read_outside |= any(name not in self._data(n) for n, _ in self.editor.readers.get(name, ()))
            if read_outside or name in self.editor.pinned:
                lifted[name] = self._leaving(name)
            else:
                self.editor.changed(name)
        for node in island:
            self._convert(node)
            data = set(self._data(node))
            for i, name in enumerate(node.input):
                if name in data and (i == 0 or node.op_type in POINTWISE or node.op_type == "Concat"):
                    node.input[i] = self._entering(name, lifted)
            for i, name in enumerate(node.output):
                node.output[i] = lifted.get(name, name)

    def _leaving(self, name: str) -> str:
        made = self.editor.fresh(f"{name}_4d")
        self.editor.insert("Squeeze", [made, self._axis(2)], [name], f"{name}_squeeze")
        return made

    def _entering(self, name: str, lifted: dict[str, str]) -> str:
        """What a lifted node reads instead of `name`: it has one axis more if it has a channel axis at all."""
        if name not in lifted:
            rank = self._rank(name)
            if rank < 2:
                return name
            if self.constants.shape(name) is not None:
                return self.constants.changed(name, Insert())
            lifted[name] = self.editor.fresh(f"{name}_4d")
            axis = self._axis(rank - 1)
            self.editor.insert("Unsqueeze", [name, axis], [lifted[name]], f"{name}_unsqueeze")
        return lifted[name]

    def _axis(self, axis: int) -> str:
        name = f"axis_{axis}"
        stored = self.editor.stored(name)
        if stored is not None and stored.dtype == np.int64 and stored.tolist() == [axis]:
            return name
        return self.editor.numbers([axis], name)

    def _convert(self, node: onnx.NodeProto) -> None:
        """Attributes and inputs that are no data, for four dimensions."""
        given = attributes(node)
        if node.op_type in CONVOLUTIONS:
            node.input[1] = self.constants.changed(node.input[1], Insert())
        if node.op_type in (*CONVOLUTIONS, *POOLS):
            for name, value in _WINDOW.items():
                if given.get(name):
                    set_attribute(node, name, [value, *given[name]])
            if given.get("pads"):
                before, after = given["pads"]
                set_attribute(node, "pads", [0, before, 0, after])
        elif node.op_type in _WITH_AXIS and "axis" in given:
            set_attribute(node, "axis", _moved(given["axis"]))
        elif node.op_type == "Slice":
            self._set_axes(node, [_moved(a) for a in self._sliced_axes(node) or ()])
        elif node.op_type == "Pad":
            pads = self.editor.numbers(self._padded(node) or (), f"{node.name}_pads")
            node.input[1] = pads
            del node.input[3:]

    def _set_axes(self, node: onnx.NodeProto, axes: list[int]) -> None:
        stored = self.editor.stored(node.input[3]) if len(node.input) > 3 and node.input[3] else None
        if (stored is not None and stored.tolist() == axes) or (stored is None and axes == list(range(len(axes)))):
            return
        made = self.editor.numbers(axes, f"{node.name}_axes")
        while len(node.input) < 4:
            node.input.append("")
        node.input[3] = made


def _moved(axis: int) -> int:
    """An axis of [B, C, T] in [B, C, 1, T]."""
    return (0, 1, 3)[axis % _RANK]
