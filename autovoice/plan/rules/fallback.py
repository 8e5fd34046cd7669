"""The steps of what stands in for an engine where it does not fit the machine that loads it."""

from __future__ import annotations

from autovoice.graph.wiring import Graph
from autovoice.plan.rules.component import engine_steps, verify
from autovoice.plan.rules.step import Step
from autovoice.spec import Component

SUFFIX = "_fallback"


def fallback_steps(graph: Graph, c: Component) -> list[Step]:
    """A build in float32 on the fallback, held against the reference like any other: none without a fallback."""
    stand_in = c.stand_in
    if stand_in is None:
        return []
    steps = engine_steps(graph, stand_in, SUFFIX)
    return [*steps, *verify(graph, stand_in, SUFFIX)]
