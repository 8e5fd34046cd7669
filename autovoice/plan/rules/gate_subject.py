"""The file that gates judge: an engine, or where that cannot run here the graph that it was made from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from autovoice.plan.rules.environment import implicit, runs_here
from autovoice.plan.rules.step import engine_of, loader
from autovoice.spec import PRIMARY, Backend, Component, EngineVariant

if TYPE_CHECKING:
    from autovoice.spec.fields import LoaderField

#: what the steps before a build call the graph that they write
_GRAPH = "model.onnx"


@dataclass(frozen=True)
class GateSubject:
    """A file that `step` wrote, run by `backend`: the engine, or the graph that the builder was given."""

    backend: Backend
    step: str
    graph: bool = False

    @property
    def loader(self) -> LoaderField:
        made = loader(self.backend)
        if self.graph:
            made["file"] = _GRAPH
        return made

    @property
    def description(self) -> Mapping[str, str]:
        """What a parity is of, as the manifest says it."""
        return {"of": "graph", "by": self.backend.name} if self.graph else {"of": "engine"}


def by_graph(c: Component) -> bool:
    """True where a graph stands for the component's engine."""
    subject = gate_subject(c.primary)
    return subject is not None and subject.graph


def gate_subject(v: EngineVariant) -> GateSubject | None:
    """Of a variant of an engine, the file that gates judge; None where nothing of it can run here.

    A graph stands for its engine where the backend's `gated_by` computes in the variant's type. Rounding, types
    and rewrites are then those of the engine; the tool's own choices are not in it.
    """
    if runs_here(v):
        return GateSubject(v.backend, engine_of(v.component) if v.role == PRIMARY else v.step("build"))
    by = v.backend.gated_by
    if by is None or v.precision.type not in by.types or v.backend.from_module or implicit(v):
        return None
    return GateSubject(by, v.step("passes" if v.backend.passes else "lower"), graph=True)
