"""Several ONNX graphs as one, joined by the names of the wires between them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import onnx
from onnx import helper

from autovoice.errors import ExportError, first_line
from autovoice.onnx_tools.graph import free_name, inner_graphs, name_nodes
from autovoice.onnx_tools.io import at_opset, opset_of

Names = dict[str, str]


@dataclass(frozen=True)
class Member:
    """A graph, what it is called by, and the wire that each of its inputs and outputs is."""

    name: str
    model: onnx.ModelProto
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]

    @property
    def wires(self) -> Names:
        return {**self.inputs, **self.outputs}


def merged(
    members: Sequence[Member], inputs: Iterable[str], outputs: Iterable[str]
) -> tuple[onnx.ModelProto, dict[str, dict[str, Names]]]:
    """One graph from these wires to those, members in the order in which they follow from each other.

    Also {member: {"nodes", "tensors": {old name: new name}}} of all that is called otherwise now: wires have their
    own names, and a name that several members use has the member's in front. Raises ExportError.
    """
    parts = _alike(members)
    tensors, nodes = _renamed_tensors(parts), _renamed_nodes(parts)
    graph = onnx.GraphProto(name="_".join(p.name for p in parts))
    values: dict[str, onnx.ValueInfoProto] = {}
    for part in parts:
        _rename(part.model.graph, tensors[part.name])
        for node in part.model.graph.node:
            node.name = nodes[part.name].get(node.name, node.name)
        graph.node.extend(part.model.graph.node)
        graph.initializer.extend(part.model.graph.initializer)
        graph.sparse_initializer.extend(part.model.graph.sparse_initializer)
        for value in (*part.model.graph.output, *part.model.graph.input):  # who makes a wire comes first
            values.setdefault(value.name, value)
    graph.input.extend(values[wire] for wire in inputs)
    graph.output.extend(values[wire] for wire in outputs)
    model = helper.make_model(
        graph, producer_name="autovoice", functions=_functions(parts), opset_imports=_opsets(parts)
    )
    model.ir_version = max(p.model.ir_version for p in parts)
    name_nodes(model)  # bodies of two members may call their nodes the same
    _check(model)
    return model, {p.name: {"nodes": nodes[p.name], "tensors": tensors[p.name]} for p in parts}


def _check(model: onnx.ModelProto) -> None:
    try:
        onnx.checker.check_model(model)
    except (onnx.checker.ValidationError, ValueError) as e:
        raise ExportError(f"the members cannot be merged into one graph: {first_line(e)}", "fuse fewer of them") from e


# -- one version for all -------------------------------------------------------------------------


def _alike(members: Sequence[Member]) -> list[Member]:
    """Copies at one opset, in which every output is made by a node."""
    least = max(opset_of(m.model) for m in members)
    return [_with_made_outputs(Member(m.name, at_opset(m.model, least), m.inputs, m.outputs)) for m in members]


def _with_made_outputs(part: Member) -> Member:
    """The member, each of whose outputs a node makes: one that is an input or a weight as it is, is another wire."""
    graph, taken = part.model.graph, set(_values(part.model.graph))
    made = {o for n in graph.node for o in n.output}
    plain = [o.name for o in graph.output if o.name not in made]
    sources = {name: free_name(f"{name}_in", taken) for name in plain}
    types = [onnx.ValueInfoProto.FromString(o.SerializeToString()) for o in graph.output]
    _rename(graph, sources)
    for output, value in zip(graph.output, types, strict=True):
        output.CopyFrom(value)
    graph.node.extend(helper.make_node("Identity", [s], [name], f"{name}_identity") for name, s in sources.items())
    inputs = {sources.get(local, local): wire for local, wire in part.inputs.items()}
    return Member(part.name, part.model, inputs, part.outputs)


def _opsets(parts: Sequence[Member]) -> list[onnx.OperatorSetIdProto]:
    found: dict[str, int] = {}
    for part in parts:
        for opset in part.model.opset_import:
            domain = "" if opset.domain == "ai.onnx" else opset.domain
            if found.setdefault(domain, opset.version) != opset.version:
                fact = f"{part.name} uses version {opset.version} of '{domain}', the others {found[domain]}"
                raise ExportError(fact, "export its file again, or leave it out of the group")
    return [helper.make_opsetid(domain, version) for domain, version in found.items()]


def _functions(parts: Sequence[Member]) -> list[onnx.FunctionProto]:
    found: dict[tuple[str, str], onnx.FunctionProto] = {}
    for part in parts:
        for function in part.model.functions:
            known = found.setdefault((function.domain, function.name), function)
            if known != function:
                fact = f"{part.name} has another function '{function.domain}.{function.name}' than the others"
                raise ExportError(fact, "export its file again, or leave it out of the group")
    return list(found.values())


# -- names ---------------------------------------------------------------------------------------


def _renamed_tensors(parts: Sequence[Member]) -> dict[str, Names]:
    wires = {w for p in parts for w in p.wires.values()}
    inner = {p.name: set(_values(p.model.graph)) - _ends(p.model.graph) for p in parts}
    found = _prefixed(inner, wires)
    for part in parts:
        found[part.name] |= {local: wire for local, wire in part.wires.items() if local != wire}
    return found


def _ends(graph: onnx.GraphProto) -> set[str]:
    return {v.name for v in (*graph.input, *graph.output)}


def _renamed_nodes(parts: Sequence[Member]) -> dict[str, Names]:
    return _prefixed({p.name: {n.name for n in p.model.graph.node} for p in parts}, set())


def _prefixed(names: Mapping[str, Collection[str]], reserved: Collection[str]) -> dict[str, Names]:
    """{member: {old: new}} of every name that is reserved, or that another member has too."""
    counts = Counter(n for own in names.values() for n in own)
    taken = {*counts, *reserved}
    found: dict[str, Names] = {}
    for member, own in names.items():
        clashing = sorted(n for n in own if n and (counts[n] > 1 or n in reserved))
        found[member] = {n: free_name(f"{member}.{n}", taken) for n in clashing}
    return found


def _values(graph: onnx.GraphProto) -> Iterator[str]:
    """Every tensor that a graph names, those of the graphs inside it among them."""
    yield from (v.name for v in (*graph.input, *graph.output))
    yield from (t.name for t in graph.initializer)
    yield from (t.values.name for t in graph.sparse_initializer)
    for node in graph.node:
        yield from (o for o in node.output if o)
        for inner in inner_graphs(node):
            yield from _values(inner)


def _rename(graph: onnx.GraphProto, names: Mapping[str, str]) -> None:
    for named in (*graph.input, *graph.output, *graph.initializer, *(t.values for t in graph.sparse_initializer)):
        named.name = names.get(named.name, named.name)
    for node in graph.node:
        node.input[:] = [names.get(i, i) for i in node.input]
        node.output[:] = [names.get(o, o) for o in node.output]
        for inner in inner_graphs(node):
            _rename(inner, names)
    del graph.value_info[:]
