"""Channel reversals carried through the graph and folded into the weights of the convolutions around them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import onnx

from autovoice.onnx_tools.passes.channel_order import Parity
from autovoice.onnx_tools.passes.channels import FLIP, FREE, SAME, Channels
from autovoice.onnx_tools.passes.constants import Constants, Flip
from autovoice.onnx_tools.passes.editor import LEAST_OPSET, Editor
from autovoice.onnx_tools.passes.operators import POINTWISE

#: what everything is like that must be stored as it is
_AS_IS = ("as it is",)

_LEAST = np.iinfo(np.int64).min


def fold_channel_flips(model: onnx.ModelProto) -> int:
    """Take channel reversals out of a graph; returns how many fewer there are."""
    editor = Editor(model)
    if editor.opset < LEAST_OPSET or not any(n.op_type in ("Slice", "Gather") for n in editor.nodes):
        return 0
    channels = Channels(editor, Constants(editor), editor.shapes())
    kinds = [(n, channels.kind(n)) for n in editor.nodes]
    if not any(kind == FLIP for _, kind in kinds):
        return 0
    plan = _plan(channels, kinds)
    if not plan.fewer:
        return 0
    _Folder(channels, plan).fold(kinds)
    editor.finish()
    return plan.fewer


@dataclass
class _Plan:
    """Which tensors are stored reversed, and how many reversals that saves."""

    reversed: set[str] = field(default_factory=set)
    fewer: int = 0


def _plan(channels: Channels, kinds: list[tuple[onnx.NodeProto, str]]) -> _Plan:
    """Each tensor is reversed or not as its neighbours allow; where they disagree, a reversal must stay.

    A set of connected tensors in which as many must stay as there are is left as it is.
    """
    like, near = Parity(), Parity()
    clashes: list[str] = []  # a tensor that somebody reads the other way round
    for a, b, unlike in _relations(channels, kinds):
        if b is not _AS_IS:
            near.join(a, b, False)
        if not like.join(a, b, unlike):
            clashes.append(a)
    saved: dict[object, int] = {}
    for node, kind in kinds:
        if kind == FLIP:
            part = near.find(node.input[0])[0]
            saved[part] = saved.get(part, 0) + 1
    for name in set(clashes):
        part = near.find(name)[0]
        saved[part] = saved.get(part, 0) - 1
    plan = _Plan(fewer=sum(n for n in saved.values() if n > 0))
    root, unlike = like.find(_AS_IS)
    for name in {name for node, _ in kinds for name in (*node.input, *node.output) if channels.carries(name)}:
        if saved.get(near.find(name)[0], 0) > 0:
            first, other = like.find(name)
            if other != (unlike if first == root else False):
                plan.reversed.add(name)
    return plan


def _relations(
    channels: Channels, kinds: list[tuple[onnx.NodeProto, str]]
) -> Iterator[tuple[str, str | tuple[str], bool]]:
    """(a, b, whether they are stored unlike each other), in the order of the graph."""
    for name in channels.editor.inputs:
        if channels.carries(name):
            yield name, _AS_IS, False
    for node, kind in kinds:
        if kind == FREE:
            continue
        reads = [name for name in node.input if channels.carries(name)]
        makes = [name for name in node.output if channels.carries(name)]
        if kind in (SAME, FLIP):
            # every part of a Split is like what is split
            to = makes[0] if makes else None
            for name in reads:
                if to is not None:
                    yield name, to, kind == FLIP
                else:
                    yield name, _AS_IS, False
            for name in makes[1:]:
                yield name, makes[0], False
        else:
            for name in (*makes, *reads):
                yield name, _AS_IS, False
    for name in sorted(channels.editor.pinned):
        if channels.carries(name):
            yield name, _AS_IS, False


@dataclass
class _Folder:
    channels: Channels
    plan: _Plan
    _flipped: dict[str, str] = field(default_factory=dict)
    _stored: dict[str, str] = field(default_factory=dict)  # a tensor, and the name under which its value is stored

    @property
    def editor(self) -> Editor:
        return self.channels.editor

    def fold(self, kinds: list[tuple[onnx.NodeProto, str]]) -> None:
        gone = [n for n, kind in kinds if kind == FLIP and self._is(n.input[0]) != self._is(n.output[0])]
        dropped = {id(n) for n in gone}
        turned = sorted(self.editor.pinned & self.plan.reversed)
        self._stored |= {name: self.editor.fresh(f"{name}_flipped") for name in turned}
        for node in gone:
            self._bypass(node.input[0], node.output[0])
        for name in turned:
            self._flip(self._stored[name], name)
        for node, kind in kinds:
            if id(node) not in dropped:
                self._rewrite(node, kind)
        self.editor.drop(gone)

    def _is(self, name: str) -> bool:
        return name in self.plan.reversed

    def _bypass(self, read: str, made: str) -> None:
        """What a reversal made has the value that is stored for what it read."""
        base = self._stored.get(read, read)
        if made in self.editor.pinned and not self._is(made):
            if base in self.editor.pinned or base in self.editor.inputs:
                self.editor.insert("Identity", [base], [made], f"{made}_same")
            else:
                self._stored |= {name: made for name, at in self._stored.items() if at == base}
                self._stored |= {read: made, base: made}
        else:
            self._stored[made] = base

    def _rewrite(self, node: onnx.NodeProto, kind: str) -> None:
        if kind == FREE:
            self._weights(node, self._is(node.input[0]), self._is(node.output[0]))
        makes = [name for name in node.output if self.channels.carries(name)]
        wanted = kind == SAME and bool(makes) and self._is(makes[0])
        if wanted:
            self._turn(node)
        for i, name in enumerate(node.input):
            if kind in (FREE, FLIP) or not self.channels.carries(name) or self._is(name) == wanted:
                node.input[i] = self._stored.get(name, name)
            else:
                node.input[i] = self._flip(self._stored.get(name, name))
        for i, name in enumerate(node.output):
            node.output[i] = self._stored.get(name, name)

    def _turn(self, node: onnx.NodeProto) -> None:
        """Let a node do to reversed channels what it does to channels."""
        if node.op_type in POINTWISE:
            for i, name in enumerate(node.input):
                axis = self.channels.constant_axis(node, name)
                if axis is not None:
                    node.input[i] = self.channels.constants.changed(name, Flip((axis,)))
        elif node.op_type in ("Conv", "ConvTranspose"):  # in groups, of which the order is reversed too
            self._weights(node, True, True)
        elif node.op_type == "Concat" and self.channels.axis(node) == 1:
            self._reverse_inputs(node)
        elif node.op_type == "Concat":
            for i, name in enumerate(node.input):
                if self.channels.constants.shape(name) is not None:
                    node.input[i] = self.channels.constants.changed(name, Flip((1,)))
        elif node.op_type == "Split" and (sizes := self.channels.parts(node)):
            outputs = list(node.output)[::-1]
            del node.output[:]
            node.output.extend(outputs)
            made = self.editor.numbers(sizes[::-1], f"{node.name}_sizes")
            del node.input[1:]
            node.input.append(made)
            for attribute in [a for a in node.attribute if a.name == "num_outputs"]:
                node.attribute.remove(attribute)
        elif node.op_type == "Slice" and 1 in (self.channels.slice_axes(node) or ()):
            self._move_window(node)

    def _reverse_inputs(self, node: onnx.NodeProto) -> None:
        names = [
            self.channels.constants.changed(name, Flip((1,)))
            if self.channels.constants.shape(name) is not None
            else name
            for name in reversed(node.input)
        ]
        del node.input[:]
        node.input.extend(names)

    def _move_window(self, node: onnx.NodeProto) -> None:
        where = (self.channels.slice_axes(node) or []).index(1)
        first, last = self.channels.window(node) or (0, 0)
        n = self.channels.count(node.input[0])
        for i, value in ((1, n - last), (2, n - first)):
            values = np.array(self.editor.stored(node.input[i]))
            values[where] = value
            node.input[i] = self.editor.add(values, f"{node.name}_window")

    def _weights(self, node: onnx.NodeProto, reads: bool, makes: bool) -> None:
        """Fold a reversal of what a convolution reads, or makes, into its weights and its bias."""
        inside, out = (1, 0) if node.op_type == "Conv" else (0, 1)
        axes = tuple(sorted([*([inside] if reads else []), *([out] if makes else [])]))
        if axes:
            node.input[1] = self.channels.constants.changed(node.input[1], Flip(axes))
        if makes and len(node.input) > 2 and node.input[2]:
            node.input[2] = self.channels.constants.changed(node.input[2], Flip((0,)))

    def _flip(self, name: str, made: str = "") -> str:
        """The channels of a stored tensor, reversed by a node."""
        if made or name not in self._flipped:
            back = self.editor.numbers([-1], "minus_one")
            where = [self.editor.numbers([_LEAST], "least"), self.editor.numbers([1], "channels"), back]
            output = made or self.editor.fresh(f"{name}_flipped")
            self.editor.insert("Slice", [name, back, *where], [output], f"{name}_flip")
            self._flipped.setdefault(name, output)
        return self._flipped[name]
