"""The steps of a component built in another way, beside the build it is to be compared with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from autovoice.graph.wiring import Graph
from autovoice.plan.rules.component import engine_steps, sources
from autovoice.plan.rules.step import Step, loader
from autovoice.spec import Backend, Component, Precision


@dataclass(frozen=True)
class Baseline:
    """Every component on this backend in this precision, run with these options of a session."""

    name: str
    backend: Backend
    precision: Precision
    session: Mapping[str, Any] = field(default_factory=dict)

    def of(self, c: Component) -> Component:
        """The component as this contender builds it."""
        backend = replace(self.backend.with_options(c.options), session={**self.backend.session, **self.session})
        made = replace(c, backend=backend, precision=self.precision, quantize=None, only_if_faster=False)
        return made.in_file_precision()


def baseline_steps(graph: Graph, c: Component, contender: Baseline) -> tuple[Step, ...]:
    """The last one is the build."""
    return (*sources(graph, c), *engine_steps(graph, contender.of(c), f"_{contender.name}"))


def loaded_as(c: Component, contender: Baseline) -> Mapping[str, Any]:
    """What loads the build."""
    return loader(contender.of(c).backend)
