"""The steps of a fallback: the engine that is loaded where the primary one does not fit the machine."""

from __future__ import annotations

from autovoice.graph.wiring import Graph
from autovoice.plan.rules.component import engine_steps
from autovoice.plan.rules.step import Step
from autovoice.plan.rules.verify import verify
from autovoice.spec import Component


def fallback_steps(graph: Graph, c: Component) -> list[Step]:
    """A build in float32 on the fallback, held against the reference like any other: none without a fallback."""
    fallback = c.fallback_engine
    return [] if fallback is None else [*engine_steps(graph, fallback), *verify(graph, fallback)]
