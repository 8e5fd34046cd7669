"""Constants that a rewrite changes along an axis, stored as they are or behind DequantizeLinear, Cast and Identity."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx

from autovoice.onnx_tools.passes.editor import Array, Editor, attributes, set_attribute

#: their first input, constant, makes their output constant
_BEHIND = ("DequantizeLinear", "QuantizeLinear", "Cast", "Identity")


@dataclass(frozen=True)
class Insert:
    """A new axis of length 1 before the last."""

    def array(self, values: Array) -> Array:
        return np.expand_dims(values, -2)

    def scales(self, values: Array, axis: int) -> Array:
        return values

    def axis(self, axis: int, rank: int) -> int:
        return axis + 1 if axis == rank - 1 else axis


@dataclass(frozen=True)
class Flip:
    """The order along some axes reversed."""

    axes: tuple[int, ...]

    def array(self, values: Array) -> Array:
        return np.flip(values, self.axes)

    def scales(self, values: Array, axis: int) -> Array:
        return values[::-1] if axis in self.axes else values

    def axis(self, axis: int, rank: int) -> int:
        return axis


Change = Insert | Flip


@dataclass
class Constants:
    """What is constant in a graph, and changed copies, each made once."""

    editor: Editor
    _made: dict[tuple[str, Change], str] = field(default_factory=dict)

    def shape(self, name: str) -> tuple[int, ...] | None:
        """The shape of a constant that `changed` can change; None for other tensors."""
        values = self.editor.stored(name)
        if values is not None:
            return tuple(values.shape)
        node = self.editor.made_by.get(name)
        if node is None or node.op_type not in _BEHIND or attributes(node).get("block_size", 0):
            return None
        if any(self.editor.stored(other) is None for other in node.input[1:] if other):
            return None
        return self.shape(node.input[0])

    def changed(self, name: str, change: Change) -> str:
        """The name of a constant that is `name`, changed."""
        key = (name, change)
        if key not in self._made:
            values = self.editor.stored(name)
            if values is not None:
                made = self.editor.add(change.array(values), f"{name}_changed", instead_of=name)
            else:
                made = self._behind(name, change)
            self._made[key] = made
        return self._made[key]

    def _behind(self, name: str, change: Change) -> str:
        rank = len(self.shape(name) or ())
        old = self.editor.made_by[name]
        node = self.editor.insert(old.op_type, [], [self.editor.fresh(f"{name}_changed")], f"{old.name}_changed")
        self.editor.replaces(node.output[0], name)
        self.editor.replaces(node.name, old.name)
        node.attribute.extend(old.attribute)
        node.input.append(self.changed(old.input[0], change))
        axis = attributes(old).get("axis", 1) % max(rank, 1)
        for other in old.input[1:]:
            values = self.editor.stored(other) if other else None
            if values is None or values.ndim == 0:
                node.input.append(other)
                continue
            changed = change.scales(values, axis)
            same = changed is values
            node.input.append(other if same else self.editor.add(changed, f"{other}_changed", instead_of=other))
            set_attribute(node, "axis", change.axis(axis, rank))
        return str(node.output[0])


def spatial(node: onnx.NodeProto, rank: int) -> dict[str, Any]:
    """What a convolution does along its `rank` spatial axes, with the defaults that its node leaves out."""
    given: Mapping[str, Any] = attributes(node)
    return {
        "auto_pad": given.get("auto_pad", b"NOTSET"),
        "pads": list(given.get("pads", [0] * 2 * rank)),
        "strides": list(given.get("strides", [1] * rank)),
        "dilations": list(given.get("dilations", [1] * rank)),
    }
