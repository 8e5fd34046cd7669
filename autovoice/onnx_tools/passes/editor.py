"""A graph while it is rewritten: who makes and who reads each tensor, what is constant, names that are free."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from autovoice.onnx_tools.graph import inner_graphs, sorted_nodes
from autovoice.onnx_tools.guard import inferred

Array = np.ndarray[Any, np.dtype[Any]]
Shape = tuple[int | None, ...]

#: the first opset whose Squeeze, Split and Unsqueeze read axes as an input
LEAST_OPSET = 13


class Editor:
    """Nodes in a list of their own, put back into the model by `finish`, which alone changes it."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._model, self._graph = model, model.graph
        self.nodes: list[onnx.NodeProto] = list(model.graph.node)
        self.inputs = {v.name for v in model.graph.input}
        self.outputs = {v.name for v in model.graph.output}
        inside = {name for node in self.nodes for name in _read_inside(node)}
        #: names that must go on meaning what they mean: the graph's outputs, and what If and Loop bodies read
        self.pinned = self.outputs | inside
        self._tensors = {t.name: t for t in model.graph.initializer}
        self._names = {*self.inputs, *self._tensors, *(n.name for n in self.nodes)}
        self._names |= {name for n in self.nodes for name in (*n.input, *n.output)} | inside
        self._stale: set[str] = set()
        self._stands_for: dict[str, str] = {}  # a new tensor or node, and the one whose name it takes if that goes
        self.index()

    def index(self) -> None:
        """Who makes and who reads each tensor, anew; a rewrite that changes nodes calls it before it asks again."""
        self.made_by = {name: node for node in self.nodes for name in node.output if name}
        self.readers: dict[str, list[tuple[onnx.NodeProto, int]]] = {}
        for node in self.nodes:
            for i, name in enumerate(node.input):
                self.readers.setdefault(name, []).append((node, i))

    @property
    def opset(self) -> int:
        return max((o.version for o in self._model.opset_import if o.domain in ("", "ai.onnx")), default=1)

    def shapes(self) -> dict[str, Shape]:
        """The shape of every tensor whose rank inference tells; an axis of unknown length is None."""
        graph = inferred(self._model, data_prop=True)
        found: dict[str, Shape] = {t.name: tuple(t.dims) for t in graph.initializer}
        for value in (*graph.value_info, *graph.input, *graph.output):
            if value.type.tensor_type.HasField("shape"):
                dims = value.type.tensor_type.shape.dim
                found[value.name] = tuple(d.dim_value if d.HasField("dim_value") else None for d in dims)
        return found

    # -- constants -----------------------------------------------------------------------------------

    def stored(self, name: str) -> Array | None:
        """The value of an initializer that no caller can replace, or of a Constant node; None for other tensors."""
        tensor = self._tensors.get(name)
        if tensor is None and (node := self.made_by.get(name)) is not None and node.op_type == "Constant":
            tensor = attributes(node).get("value")
        if not isinstance(tensor, onnx.TensorProto) or name in self.inputs or tensor.external_data:
            return None
        values: np.ndarray = numpy_helper.to_array(tensor)
        return values

    def add(self, values: Array, name: str, instead_of: str = "") -> str:
        """A new constant; it takes the name of the one it stands for if nothing reads that one in the end."""
        made = self.fresh(name)
        self._tensors[made] = numpy_helper.from_array(np.ascontiguousarray(values), made)
        if instead_of:
            self.replaces(made, instead_of)
        return made

    def replaces(self, new: str, old: str) -> None:
        """Let a new constant, tensor or node take the name of an old one that nothing reads in the end."""
        self._stands_for[new] = old

    def numbers(self, values: Iterable[int], name: str) -> str:
        return self.add(np.array(list(values), np.int64), name)

    # -- nodes and names -------------------------------------------------------------------------------

    def fresh(self, name: str) -> str:
        """`name`, or with a number behind it where it is taken."""
        made, i = name, 1
        while made in self._names:
            i += 1
            made = f"{name}_{i}"
        self._names.add(made)
        return made

    def insert(self, op: str, reads: Iterable[str], makes: Iterable[str], name: str, **more: Any) -> onnx.NodeProto:
        """A new node; `finish` finds its place."""
        node = helper.make_node(op, list(reads), list(makes), self.fresh(name), **more)
        self.nodes.append(node)
        return node

    def drop(self, nodes: Iterable[onnx.NodeProto]) -> None:
        gone = {id(n) for n in nodes}
        self.nodes = [n for n in self.nodes if id(n) not in gone]

    def read_instead(self, old: str, new: str) -> None:
        """Let every node that reads `old` read `new`; what is pinned keeps its own name and needs more than this."""
        for node in self.nodes:
            for i, name in enumerate(node.input):
                if name == old:
                    node.input[i] = new

    def changed(self, name: str) -> None:
        """What the model says of this tensor's shape no longer holds."""
        self._stale.add(name)

    # -- the end -----------------------------------------------------------------------------------------

    def finish(self) -> None:
        """Put nodes and constants back, without those that nothing reads any more, every node after what it reads."""
        self._drop_unread()
        self._restore_names()
        nodes = [_copy(n) for n in sorted_nodes(self.nodes)]
        del self._graph.node[:]
        self._graph.node.extend(nodes)
        tensors = list(self._tensors.values())
        del self._graph.initializer[:]
        self._graph.initializer.extend(tensors)
        made = {name for n in nodes for name in n.output} - self._stale
        known = [v for v in self._graph.value_info if v.name in made]
        del self._graph.value_info[:]
        self._graph.value_info.extend(known)

    def _drop_unread(self) -> None:
        size = -1
        while len(self.nodes) != size:
            size = len(self.nodes)
            read = {name for n in self.nodes for name in n.input} | self.pinned
            self.nodes = [n for n in self.nodes if not read.isdisjoint(n.output)]
        self._tensors = {k: t for k, t in self._tensors.items() if k in read or k in self.inputs}

    def _restore_names(self) -> None:
        names = {n.name for n in self.nodes}
        taken = {*self._tensors, *self.inputs, *(name for n in self.nodes for name in n.output)}
        back = {new: old for new, old in self._stands_for.items() if old not in (taken if new in taken else names)}
        back = {new: old for old, new in {old: new for new, old in reversed(back.items())}.items()}  # the first of each
        for node in self.nodes:
            node.name = back.get(node.name, node.name)
            for names_in in (node.input, node.output):
                for i, name in enumerate(names_in):
                    names_in[i] = back.get(name, name)
        for tensor in self._tensors.values():
            tensor.name = back.get(tensor.name, tensor.name)
        self._tensors = {t.name: t for t in self._tensors.values()}


def attributes(node: onnx.NodeProto) -> dict[str, Any]:
    return {a.name: helper.get_attribute_value(a) for a in node.attribute}


def set_attribute(node: onnx.NodeProto, name: str, value: Any) -> None:
    for attribute in [a for a in node.attribute if a.name == name]:
        node.attribute.remove(attribute)
    node.attribute.append(helper.make_attribute(name, value))


def _copy(node: onnx.NodeProto) -> onnx.NodeProto:
    made = onnx.NodeProto()
    made.CopyFrom(node)
    return made


def _read_inside(node: onnx.NodeProto) -> Iterator[str]:
    """Every name that graphs inside a node read or give, their own among them."""
    for graph in inner_graphs(node):
        yield from (v.name for v in graph.output)
        for inner in graph.node:
            yield from inner.input
            yield from _read_inside(inner)
