"""Walking an ONNX model with all that is inside it: bodies of If, Loop and Scan, local functions, every tensor.

A body reads values of the graphs around it by name alone: no input of its node says so. What sorts, renames or
removes has to count these.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import onnx


def inner_graphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """The graphs in a node's attributes, its bodies."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def has_bodies(node: onnx.NodeProto) -> bool:
    return next(inner_graphs(node), None) is not None


def nodes_within(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    """These nodes, then those of their bodies, however deep."""
    inner = []
    for node in nodes:
        yield node
        inner += list(inner_graphs(node))
    for graph in inner:
        yield from nodes_within(graph.node)


def body_nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """The nodes inside the bodies of a graph's nodes, without the graph's own."""
    for node in graph.node:
        for inner in inner_graphs(node):
            yield from nodes_within(inner.node)


def graphs_of(model: onnx.ModelProto) -> Iterator[onnx.GraphProto]:
    """The main graph, and every body in it or in a local function."""
    yield model.graph
    for nodes in (model.graph.node, *(f.node for f in model.functions)):
        for node in nodes_within(nodes):
            yield from inner_graphs(node)


def tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Every stored tensor: initializers, sparse ones, and those in attributes, wherever they stand."""
    for graph in graphs_of(model):
        yield from graph.initializer
        for sparse in graph.sparse_initializer:
            yield from (sparse.values, sparse.indices)
    for nodes in (model.graph.node, *(f.node for f in model.functions)):
        for node in nodes_within(nodes):
            for attribute in node.attribute:
                yield from _attribute_tensors(attribute)
    for function in model.functions:
        for attribute in function.attribute_proto:
            yield from _attribute_tensors(attribute)


def _attribute_tensors(attribute: onnx.AttributeProto) -> Iterator[onnx.TensorProto]:
    if attribute.HasField("t"):
        yield attribute.t
    yield from attribute.tensors
    for sparse in (
        *([attribute.sparse_tensor] if attribute.HasField("sparse_tensor") else ()),
        *attribute.sparse_tensors,
    ):
        yield from (sparse.values, sparse.indices)


# -- what is read and made -----------------------------------------------------------------------


def captured(node: onnx.NodeProto) -> set[str]:
    """The names that a node's bodies read of the graphs around them."""
    return {name for graph in inner_graphs(node) for name in _free(graph)}


def reads_of(graph: onnx.GraphProto) -> set[str]:
    """Every name that something reads in a graph: nodes, their bodies, and whoever takes its outputs."""
    reads = {v.name for v in graph.output}
    for node in graph.node:
        reads |= {*node.input, *captured(node)}
    return reads - {""}


def stored_names(graph: onnx.GraphProto) -> set[str]:
    return {t.name for t in graph.initializer} | {s.values.name for s in graph.sparse_initializer}


def names_within(graph: onnx.GraphProto) -> Iterator[str]:
    """Every tensor that a graph names, those of the graphs inside it among them."""
    yield from (v.name for v in (*graph.input, *graph.output))
    yield from stored_names(graph)
    for node in graph.node:
        yield from (name for name in (*node.input, *node.output) if name)
        for inner in inner_graphs(node):
            yield from names_within(inner)


def _free(graph: onnx.GraphProto) -> set[str]:
    known = {v.name for v in graph.input} | stored_names(graph) | {o for n in graph.node for o in n.output}
    return reads_of(graph) - known


# -- names and order -----------------------------------------------------------------------------


def rename_reads(nodes: Iterable[onnx.NodeProto], names: Mapping[str, str]) -> None:
    """Let nodes and what their bodies capture read other names, in place."""
    for node in nodes:
        node.input[:] = [names.get(i, i) for i in node.input]
        rename_captured(node, names)


def rename_captured(node: onnx.NodeProto, names: Mapping[str, str]) -> None:
    """The same for a node's bodies alone; a name that a body makes itself is its own."""
    for graph in inner_graphs(node):
        own = {v.name for v in graph.input} | stored_names(graph) | {o for n in graph.node for o in n.output}
        left = {old: new for old, new in names.items() if old not in own}
        rename_reads(graph.node, left)
        for value in graph.output:
            value.name = left.get(value.name, value.name)


def outputs_by_nodes(graph: onnx.GraphProto) -> None:
    """Let a node make every output that is a weight as it stands, in place."""
    taken = set(names_within(graph))
    plain = {v.name for v in graph.output} & stored_names(graph)
    for tensor in [t for t in graph.initializer if t.name in plain]:
        name, tensor.name = tensor.name, free_name(f"{tensor.name}_stored", taken)
        rename_reads(graph.node, {name: tensor.name})
        graph.node.append(onnx.helper.make_node("Identity", [tensor.name], [name], f"{name}_identity"))


def free_name(name: str, taken: set[str]) -> str:
    """`name`, with _ appended until nothing is called so; taken from now on."""
    while name in taken:
        name += "_"
    taken.add(name)
    return name


def sort_nodes(graph: onnx.GraphProto) -> None:
    """Put every node after what it and its bodies read, in place, as near to the given order as that allows."""
    ordered = [onnx.NodeProto.FromString(n.SerializeToString()) for n in sorted_nodes(graph.node)]
    del graph.node[:]
    graph.node.extend(ordered)


def sorted_nodes(nodes: Sequence[onnx.NodeProto]) -> list[onnx.NodeProto]:
    made = {name: i for i, n in enumerate(nodes) for name in n.output if name}
    order: list[onnx.NodeProto] = []
    seen: set[int] = set()
    for start in range(len(nodes)):
        stack = [(start, False)]
        while stack:
            i, ready = stack.pop()
            if ready:
                order.append(nodes[i])
            elif i not in seen:
                seen.add(i)
                stack.append((i, True))
                reads = {made[name] for name in (*nodes[i].input, *captured(nodes[i])) if name in made}
                stack.extend((j, False) for j in sorted(reads, reverse=True) if j not in seen)
    return order


def name_nodes(model: onnx.ModelProto) -> None:
    """Give every node a name of its own, in place: precisions tell nodes apart by name, ONNX files need not.

    Those in bodies too, after all others: two branches may call their nodes the same.
    """
    taken: set[str] = set()
    for i, node in enumerate(nodes_within(model.graph.node)):
        node.name = node.name or f"{node.op_type}_{i}"
        while node.name in taken:
            node.name += f"_{i}"
        taken.add(node.name)
