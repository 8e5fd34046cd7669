"""The steps that only a fused component has: the merge of graphs, ranges and policies."""

from __future__ import annotations

from typing import TYPE_CHECKING

from autovoice.graph.wiring import Graph
from autovoice.plan.rules.step import Step, component_step, export_of, plain_keep, policy
from autovoice.plan.rules.tensors import input_ports, inputs_of, output_ports, outputs_of
from autovoice.spec import Component, EngineVariant, Keep

if TYPE_CHECKING:
    from autovoice.spec.fields import PolicyField
    from autovoice.steps.fields import FuseFields


def fuse(graph: Graph, c: Component) -> Step:
    """The exports of its members as one graph."""
    fields: FuseFields = {
        "members": [{"name": m.name, "inputs": input_ports(m), "outputs": output_ports(m)} for m in c.members],
        "inputs": inputs_of(graph, c),
        "outputs": outputs_of(c),
    }
    return component_step(c, "fuse", fields, _exports(c))


def fused_ranges(c: Component) -> Step:
    """The ranges of its members, under the names of the merged graph."""
    needs = {f"ranges:{m.name}": f"{m.name}.ranges" for m in c.members if m.quantized}
    return component_step(c, "ranges_fused", {}, {"export": export_of(c)} | needs, name="ranges")


def policies(v: EngineVariant) -> dict[str, PolicyField] | None:
    """What each member keeps and quantizes, in the names of its own graph; None where one rule holds all."""
    members = v.component.members
    keeps = [v.precision.keep | m.keep for m in members]
    one_rule = all(m.keep == Keep() for m in members) and not any(k.nodes or k.inputs for k in keeps)
    if not members or (v.quantize is None and one_rule):
        return None
    found: dict[str, PolicyField] = {}
    for m, keep in zip(members, keeps, strict=True):
        found[m.name] = {"keep": plain_keep(keep), "own_keep": plain_keep(m.keep)}
        if v.quantize is not None:
            found[m.name]["quantize"] = policy(m)
    return found


def policy_needs(v: EngineVariant) -> dict[str, str]:
    """The graphs that the policies of members are about, and the one that they are fused into."""
    return {"export": export_of(v.component)} | _exports(v.component) if policies(v) else {}


def _exports(c: Component) -> dict[str, str]:
    return {f"export:{m.name}": export_of(m) for m in c.members}
