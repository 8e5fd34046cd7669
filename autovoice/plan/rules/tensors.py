"""Tensors and dims in the fields of steps: what is declared, which wire it is, and who sends it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from autovoice.dims.expressions import symbols
from autovoice.graph.wiring import Graph
from autovoice.spec import Component, Dim, Tensor

if TYPE_CHECKING:
    from autovoice.spec.fields import DimField, ExampleField
    from autovoice.spec.ports import OutputField, Port, SentPort, TensorField

#: the role of the pipeline's inputs, which is also their step; and what the roles of references begin with
_INPUTS, _REFERENCE = "inputs", "reference:"


def tensor(t: Tensor) -> TensorField:
    return {"dtype": t.dtype, "shape": list(t.shape)}


def example(t: Tensor) -> ExampleField:
    return {**tensor(t), "default": t.default, "example": t.example}


def inputs_of(graph: Graph, c: Component) -> dict[str, TensorField]:
    return {i.local: tensor(graph.tensors[i.wire]) for i in c.inputs}


def outputs_of(c: Component) -> dict[str, OutputField]:
    """By the component's own names, each with the wire it feeds."""
    return {o.local: {**tensor(o.tensor), "wire": o.tensor.name} for o in c.outputs}


def input_ports(c: Component) -> dict[str, Port]:
    return {i.local: {"wire": i.wire} for i in c.inputs}


def output_ports(c: Component) -> dict[str, Port]:
    return {o.local: {"wire": o.tensor.name} for o in c.outputs}


def reads(graph: Graph, c: Component) -> dict[str, SentPort]:
    """What the references of its producers send it."""
    return referred(graph, input_ports(c))


def referred(graph: Graph, ports: Mapping[str, Port]) -> dict[str, SentPort]:
    """The same ports, each with the float32 reference that holds it, or the pipeline's inputs."""
    producers = {name: graph.producers[port["wire"]] for name, port in ports.items()}
    roles = {name: _INPUTS if p is None else f"{_REFERENCE}{p}" for name, p in producers.items()}
    return {name: {"role": roles[name], "wire": port["wire"]} for name, port in ports.items()}


def senders(*ports: Mapping[str, SentPort]) -> dict[str, str]:
    """{role: step} of the references and inputs that hold these."""
    found = dict.fromkeys(port["role"] for every in ports for port in every.values())
    return {role: role if role == _INPUTS else f"{role.removeprefix(_REFERENCE)}.reference" for role in found}


def symbols_of(shapes: Iterable[Iterable[str | int]]) -> set[str]:
    return {s for shape in shapes for axis in shape for s in symbols(axis)}


def dims_of(names: Iterable[str], dims: Mapping[str, Dim]) -> dict[str, Dim]:
    """The dims of `names` and of every formula among them, in a stable order."""
    found: dict[str, Dim] = {}
    left = sorted(names)
    while left:
        name = left.pop()
        if name not in found:
            found[name] = dims[name]
            left += sorted(symbols(dims[name].formula or 0))
    return dict(sorted(found.items()))


def formulas(dims: Mapping[str, Dim]) -> dict[str, str]:
    return {n: d.formula for n, d in dims.items() if d.formula}


def profiles(dims: Mapping[str, Dim]) -> dict[str, DimField]:
    """What sizes are drawn from, and samples are held against."""
    return {
        n: {"min": d.min, "opt": d.opt, "max": d.max, "formula": d.formula, "multiple": d.multiple}
        for n, d in dims.items()
    }
