"""What is held against a reference: an engine, or where that cannot run here the graph that it was made from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from autovoice.plan.rules.environment import implicit, runs_here
from autovoice.plan.rules.step import engine_of, loader
from autovoice.spec import Backend, Component

#: what the steps before a build call the graph that they write
_GRAPH = "model.onnx"


@dataclass(frozen=True)
class GateSubject:
    """A file that `step` wrote, run by `backend`: the engine, or the graph that the builder was given."""

    backend: Backend
    step: str
    graph: bool = False

    @property
    def loader(self) -> dict[str, Any]:
        return loader(self.backend) | ({"file": _GRAPH} if self.graph else {})

    @property
    def description(self) -> Mapping[str, str]:
        """What a parity is of, as the manifest says it."""
        return {"of": "graph", "by": self.backend.name} if self.graph else {"of": "engine"}


def by_graph(c: Component) -> bool:
    """True where a graph stands for the component's engine."""
    one = gate_subject(c)
    return one is not None and one.graph


def gate_subject(c: Component, suffix: str = "") -> GateSubject | None:
    """Of the build with this suffix; None where neither can run here.

    A graph stands for its engine where the backend's `gated_by` computes in the component's type. Rounding, types
    and rewrites are then those of the engine; the tool's own choices are not in it.
    """
    settled = c.settled
    if runs_here(c):
        return GateSubject(c.backend, f"{c.name}.build{suffix}" if suffix else engine_of(c))
    by = c.backend.gated_by
    if by is None or settled.precision.type not in by.types or c.backend.from_module or implicit(c):
        return None
    return GateSubject(by, f"{c.name}.{'passes' if c.backend.passes else 'lower'}{suffix}", graph=True)
