"""The account of a finished build: of every engine what was asked, delivered and measured.

The table, its notes and the manifest are written from it; nothing else looks for the records of steps.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autovoice.graph.wiring import Graph
from autovoice.plan.planner import Plan
from autovoice.plan.retries import Retry, backend_options, retry_of
from autovoice.plan.rules import engine_of
from autovoice.plan.rules.environment import runs_here
from autovoice.plan.rules.gate_subject import GateSubject, gate_subject
from autovoice.plan.rules.step import export_of
from autovoice.spec import Component, EngineVariant
from autovoice.store.artefacts import Record

#: what the names of a build's files begin with, in the store
_IN_STORE = "engine"


@dataclass(frozen=True)
class EngineAccount:
    """One engine: by which choices it was built, the record that holds it, and how it was judged.

    `name` is what its files are called in the published folder. `subject` is what gates judged of it, and `verify`
    their record; None where nothing of it can run here.
    """

    name: str
    variant: EngineVariant
    record: Record
    subject: GateSubject | None
    verify: Record | None

    @property
    def delivered(self) -> Mapping[str, Any]:
        """What the tool says of the precision that is in it."""
        delivered: Mapping[str, Any] = self.record.result["delivered"]
        return delivered

    @property
    def file(self) -> str:
        return self.name + Path(self.stored).suffix

    @property
    def stored(self) -> str:
        """The name of its file in the store."""
        return str(self.record.result["engine"])

    @property
    def size(self) -> int:
        return self.record.files[self.stored].size

    @property
    def beside(self) -> dict[str, str]:
        """{name in the store: name in the folder} of the files that it needs beside it."""
        return {n: self.name + n.removeprefix(_IN_STORE) for n in self.record.result["beside"]}

    @property
    def options(self) -> Mapping[str, Any]:
        """The backend options that it was really built with, and those that it is loaded with."""
        backend = self.variant.backend
        return {**backend.options, **backend_options(self.record.result), **backend.session}

    @property
    def retry(self) -> Retry | None:
        """How it was built after a crash; None where it was built as asked."""
        return retry_of(self.record.result)

    @property
    def environment(self) -> Mapping[str, Any] | None:
        """What its backend says that it depends on: versions, GPU."""
        environment: Mapping[str, Any] | None = self.record.inputs["fields"].get("environment")
        return environment


@dataclass(frozen=True)
class ComponentAccount:
    """A component: the engine that is published, the one beside it, and what led to them.

    `race` has the times of a quantized engine and its baseline. `exports` and `references` are by part. `seconds` were
    spent now; None where everything was reused.
    """

    component: Component
    engine: EngineAccount
    fallback: EngineAccount | None
    race: Record | None
    exports: Mapping[str, Record]
    references: Mapping[str, Record]
    ranges: Record | None
    lower: Record | None
    seconds: float | None

    @property
    def name(self) -> str:
        return self.component.name

    @property
    def engines(self) -> tuple[EngineAccount, ...]:
        return (self.engine,) if self.fallback is None else (self.engine, self.fallback)

    @property
    def runs_here(self) -> bool:
        return runs_here(self.component.primary)

    @property
    def by_graph(self) -> bool:
        """True where gates judged a graph in place of the engine."""
        return self.engine.subject is not None and self.engine.subject.graph

    @property
    def chosen(self) -> bool:
        """True where the faster of two engines was taken."""
        return "chosen" in self.engine.record.result

    @property
    def ratio(self) -> float | None:
        """The time of a quantized engine over its baseline's; None where they are not two."""
        return self.race.result["ratio"] if self.race else None


@dataclass(frozen=True)
class BuildAccount:
    """A whole build. `coverage` is by what was sampled, `notes` are what steps say themselves, by step.

    `steps` has the key of every step, `ran` the ids of those that ran now, in `seconds` where they belong to no
    component.
    """

    graph: Graph
    components: tuple[ComponentAccount, ...]
    end_to_end: Record | None
    swaps: Record | None
    latency: Record | None
    coverage: Mapping[str, Record]
    notes: Mapping[str, list[str]]
    steps: Mapping[str, str]
    tools: Mapping[str, str]
    ran: frozenset[str]
    seconds: float | None

    @property
    def by_graph(self) -> list[str]:
        """The components of which a graph was judged in place of the engine."""
        return [c.name for c in self.components if c.by_graph]


def account_of(plan: Plan, records: Mapping[str, Record], ran: Iterable[str] = ()) -> BuildAccount:
    """What became of a plan, by the records of all its steps; `ran` are those that ran now."""
    spent = frozenset(ran)

    def seconds(*names: str) -> float | None:
        steps = [p.step.id for name in names for p in plan.of(name) if p.step.id in spent]
        return sum(records[s].seconds for s in steps) if steps else None

    components = [_component(c, records, seconds(c.name, *(m.name for m in c.members))) for c in plan.graph.components]
    return BuildAccount(
        graph=plan.graph,
        components=tuple(components),
        end_to_end=records.get("end_to_end"),
        swaps=records.get("swaps"),
        latency=records.get("latency"),
        coverage={_sampled(step, plan.graph): r for step, r in records.items() if "coverage" in r.result},
        notes={step: notes for step, r in records.items() if (notes := r.result.get("notes"))},
        steps={p.step.id: p.key for p in plan.steps},
        tools={name: version for p in plan.steps for name, version in p.inputs["tools"].items()},
        ran=spent,
        seconds=seconds(""),
    )


def _component(c: Component, records: Mapping[str, Record], seconds: float | None) -> ComponentAccount:
    primary, fallback = c.primary, c.fallback_engine
    record, verify = records[engine_of(c)], records.get(primary.step("verify"))
    subject = gate_subject(primary) if verify else None
    return ComponentAccount(
        component=c,
        engine=EngineAccount(c.name, _published(c, record), record, subject, verify),
        fallback=None if fallback is None else _beside(fallback, records),
        race=records.get(primary.step("race")),
        exports={p.name: records[export_of(p)] for p in c.parts},
        references={p.name: records[p.primary.step("reference")] for p in c.parts},
        ranges=records.get(primary.step("ranges")),
        lower=records.get(primary.step("lower")),
        seconds=seconds,
    )


def _published(c: Component, record: Record) -> EngineVariant:
    """The baseline where that one was faster and was taken, else the primary engine."""
    taken = c.baseline is not None and record.result.get("chosen") == c.baseline.precision.name
    return c.baseline if taken and c.baseline else c.primary


def _beside(v: EngineVariant, records: Mapping[str, Record]) -> EngineAccount:
    verify = records.get(v.step("verify"))
    name = f"{v.component.name}.{v.role}"
    return EngineAccount(name, v, records[v.step("build")], gate_subject(v) if verify else None, verify)


def _sampled(step: str, graph: Graph) -> str:
    """`speech`, or of a component's own samples `npy (encoder)`."""
    name, _, own = step.rpartition(".")
    if not name:
        return own.removeprefix("coverage_")
    every = (p for c in graph.components for p in (c, *c.members))
    return next(f"{p.calibration.name} ({name})" for p in every if p.name == name)
