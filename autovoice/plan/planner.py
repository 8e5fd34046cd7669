"""Steps → keys → what to run and what to reuse, each with the sentence why. Imports no tool."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from autovoice.errors import AutovoiceError, ConfigError, Fault
from autovoice.graph.wiring import Graph
from autovoice.plan.arguments import files_named, texts_in
from autovoice.plan.code import closure, third_party, tool_version
from autovoice.plan.rules import Step, steps_of
from autovoice.store.artefacts import Record, Store
from autovoice.store.hashing import file_sha256, json_sha256
from autovoice.terminal.overrides import override


@dataclass(frozen=True)
class Planned:
    """A step with its key, the record it would reuse (None: it must run), and why."""

    step: Step
    key: str
    inputs: Mapping[str, Any]
    record: Record | None
    why: tuple[str, ...]
    last_seconds: float | None = None


@dataclass(frozen=True)
class Plan:
    graph: Graph
    steps: tuple[Planned, ...]

    @property
    def to_run(self) -> tuple[Planned, ...]:
        return tuple(p for p in self.steps if p.record is None)

    def of(self, component: str) -> tuple[Planned, ...]:
        return tuple(p for p in self.steps if p.step.component == component)


def make_plan(graph: Graph, store: Store, steps: Sequence[Step] | None = None) -> Plan:
    """Every key and every hit; `steps`, each after those it needs, in place of a whole build's.

    Raises ConfigError for files and modules that do not exist.
    """
    steps = steps_of(graph) if steps is None else steps
    made = _Keys(graph, store)
    steps = [made.with_named(step) for step in steps]
    records: dict[str, Record | None] = {}
    for step in steps:
        made.add(step)
        if not made.faults:
            records[step.id] = store.record(made.keys[step.id])
    if made.faults:
        raise ConfigError(list(dict.fromkeys(made.faults)))
    last = store.memory.last(graph.spec.pipeline.name) if None in records.values() else {}
    planned = []
    for step in steps:
        key, inputs, record = made.keys[step.id], made.inputs[step.id], records[step.id]
        before = last.get(step.id)
        if record is None and before is not None:  # on the same backend in the same precision, else on any
            before = store.memory.last_as(before, built_as(graph, step), key)
        why = ("unchanged",) if record else _why(step, key, inputs, before, records, store)
        planned.append(Planned(step, key, inputs, record, why, before["seconds"] if before else None))
    return Plan(graph, tuple(planned))


def built_as(graph: Graph, step: Step) -> str:
    """`onnxruntime-fp32`: whose last build a step is compared with, before that of any other backend and precision."""
    every = [p for c in graph.components for p in (*c.members, c)]
    names = {f"{c.backend.name}-{c.precision.name}" for c in every if step.component in ("", c.name)}
    return names.pop() if len(names) == 1 else "mixed"


class _Keys:
    """Computes each step's inputs and key, collecting faults of missing files and modules."""

    def __init__(self, graph: Graph, store: Store) -> None:
        self.graph = graph
        self.store = store
        self.keys: dict[str, str] = {}
        self.inputs: dict[str, dict[str, Any]] = {}
        self.faults: list[Fault] = []
        self.named: dict[str, Mapping[str, Path] | AutovoiceError | OSError] = {}

    def with_named(self, step: Step) -> Step:
        """The step, its files and those that its arguments name."""
        files = dict(step.files)
        for place, text in texts_in(step.fields).items():
            found = self._named(text)
            if isinstance(found, Mapping):
                files |= {f"{place}{name}": path for name, path in found.items()}
                continue
            where, fix = _where(step, place), f"{_where(step, place)}=/path/to/file"
            fact, fix = (found.fact, found.fix) if isinstance(found, AutovoiceError) else (_os_error_text(found), fix)
            self.faults.append(Fault(where, fact, fix))
        return step if files == step.files else replace(step, files=files)

    def _named(self, text: str) -> Mapping[str, Path] | AutovoiceError | OSError:
        """What a text names, looked up once a plan: several steps have the same arguments."""
        if text not in self.named:
            try:
                self.named[text] = files_named(text, self.store.root)
            except (AutovoiceError, OSError) as e:
                self.named[text] = e
        return self.named[text]

    def add(self, step: Step) -> None:
        inputs = {
            "kind": step.kind,
            "fields": step.fields,
            "needs": {role: self.keys[need] for role, need in step.needs.items()},
            "files": self._files(step),
            "code": self._code(step, closure),
            "tools": {name: tool_version(name) for name in step.tools} | self._code(step, third_party),
        }
        self.inputs[step.id] = inputs
        try:
            self.keys[step.id] = json_sha256(inputs)
        except (ValueError, TypeError) as e:
            self.keys[step.id] = ""
            where = f"component.{step.component}" if step.component else "pipeline"
            self.faults.append(Fault(where, f"a value of it is not plain data: {e}", "no .inf, .nan or mixed keys"))

    def _files(self, step: Step) -> dict[str, str]:
        digests = {}
        for name, path in step.files.items():
            try:
                digests[name] = file_sha256(path)
            except OSError as e:
                self.faults.append(_missing(step, name, path, e))
        return digests

    def _code(self, step: Step, of: Callable[[str], Mapping[str, str]]) -> dict[str, str]:
        code: dict[str, str] = {}
        for target in step.targets:
            try:
                code |= of(target)
            except AutovoiceError as e:
                where = f"component.{step.component}" if step.component else "pipeline"
                self.faults.append(Fault(where, e.fact, e.fix))
        return code


def _missing(step: Step, name: str, path: Path, error: OSError) -> Fault:
    """A file that cannot be read, told at the key that names it and with the override that names another."""
    fact = f"{path}: {error.strerror}"
    if name in step.places:
        return Fault(step.places[name], fact, override(step.places[name], "/path/to/file"))
    place, _, beside = name.partition("/")[0].partition(" ")  # `onnx data x.bin`: named by another
    where = _where(step, place)
    return Fault(where, fact, f"fetch it into {path.parent} too" if beside else f"{where}=/path/to/file")


def _where(step: Step, place: str) -> str:
    """A place in the configuration; calibrations, which components share, have one of their own."""
    return place if place.startswith("calibration.") or not step.component else f"component.{step.component}.{place}"


def _os_error_text(error: OSError) -> str:
    return f"{error.filename}: {error.strerror}"


def _why(
    step: Step,
    key: str,
    inputs: Mapping[str, Any],
    before: Mapping[str, Any] | None,
    records: Mapping[str, Record | None],
    store: Store,
) -> tuple[str, ...]:
    if store.damaged(key):
        return ("its artefact in the store is damaged",)
    if before is None:
        return ("never built",)
    if before["key"] == key:
        return ("its artefact is gone from the store",)
    changes = changed(before["inputs"], inputs)
    running = sorted(need.rpartition(".")[2] for need in step.needs.values() if records[need] is None)
    if running:
        changes.append("needs " + ", ".join(dict.fromkeys(running)))
    return tuple(changes) or ("needs another artefact than last time",)


#: what only words the advice of a failure: it follows from what is told of the build
_UNREPORTED = ("about", "about_of")


def changed(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """One sentence a difference between two steps' inputs, `field old → new`."""
    found = []
    for part in ("fields", "tools"):
        a, b = _flat(old.get(part, {})), _flat(new.get(part, {}))
        for name in {**b, **a}:  # in the order of the configuration
            if a.get(name) != b.get(name) and name.partition(".")[0] not in _UNREPORTED:
                found.append(f"{name} {_format_value(a.get(name))} → {_format_value(b.get(name))}")
    for name in sorted(old["files"].keys() | new["files"].keys()):
        if old["files"].get(name) != new["files"].get(name):
            found.append(f"content of {name} changed")
    edited = [m for m in sorted(old["code"].keys() | new["code"].keys()) if old["code"].get(m) != new["code"].get(m)]
    if edited:
        found.append(f"code edited: {', '.join(edited)}")
    return found


def _flat(data: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(data, Mapping):
        return {prefix: data}
    flat: dict[str, Any] = {}
    for key, value in data.items():
        flat |= _flat(value, f"{prefix}.{key}" if prefix else str(key))
    return flat


def _format_value(value: Any) -> str:
    return "none" if value is None else str(value) if not isinstance(value, str) else value or "''"
