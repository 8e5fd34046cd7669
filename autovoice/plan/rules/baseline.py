"""Benchmark baselines: the steps of a component built in another way, to be compared with its own engine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from autovoice.graph.wiring import Graph
from autovoice.plan.rules.component import engine_steps, sources
from autovoice.plan.rules.step import Step, loader
from autovoice.spec import Backend, Component, EngineVariant, Precision

if TYPE_CHECKING:
    from autovoice.spec.fields import LoaderField


@dataclass(frozen=True)
class Baseline:
    """Every component on this backend in this precision, run with these options of a session."""

    name: str
    backend: Backend
    precision: Precision
    session: Mapping[str, Any] = field(default_factory=dict)

    def of(self, c: Component) -> EngineVariant:
        """The engine of a component that its own one is compared with."""
        backend = replace(self.backend.with_options(c.options), session={**self.backend.session, **self.session})
        built = replace(c, backend=backend, precision=self.precision, quantize=None, only_if_faster=False)
        return replace(built.in_file_precision().primary, role=self.name, suffix=f"_{self.name}")


def baseline_steps(graph: Graph, c: Component, baseline: Baseline) -> tuple[Step, ...]:
    """The last one is the build."""
    return (*sources(graph, c), *engine_steps(graph, baseline.of(c)))


def loaded_as(c: Component, baseline: Baseline) -> LoaderField:
    """What loads the build."""
    return loader(baseline.of(c).backend)
