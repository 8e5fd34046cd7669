"""`task=benchmark`: the built pipeline beside the same modules run otherwise, at sizes of the user's choice.

Every number is the median time of calls that wait for their answer, inputs and outputs where the engine has them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from itertools import product
from typing import Any

import numpy as np

from autovoice.backends.base import Session, Shared, on_host, read_by, timed_call
from autovoice.backends.loading import session_of
from autovoice.command.builds import BuildFailed, run_steps
from autovoice.command.invocation import Invocation
from autovoice.config.reader import Reader
from autovoice.config.schema import SpecReader
from autovoice.dims.example_values import draw, solved
from autovoice.dims.expressions import evaluate
from autovoice.errors import AutovoiceError, ConfigError, Fault, nearest
from autovoice.machine.sharing import machine, machine_shared
from autovoice.measure.bench import Timing, timed
from autovoice.plan.rules.baseline import Baseline, baseline_steps, loaded_as
from autovoice.plan.rules.tensors import example, outputs_of
from autovoice.runtime.pipeline import Pipeline
from autovoice.spec import BuildSpec, Component, Dim
from autovoice.store.atomic import write_atomically
from autovoice.tasks.run import loaded
from autovoice.terminal.escape import say
from autovoice.terminal.table import table

WHOLE = "end to end"
Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Settings:
    """Sizes of dims to time at, how often, and against what."""

    sizes: tuple[dict[str, int], ...]
    warm_up: int
    runs: int
    against: tuple[Baseline, ...]


def run(invocation: Invocation) -> int:
    invocation.check()
    settings = read(invocation)
    with loaded(invocation) as pipeline, machine_shared():
        feeds = {i: _feeds(invocation, sizes) for i, sizes in enumerate(settings.sizes)}
        wires = {i: on_host(pipeline.run(f, _every_wire(pipeline))) | f for i, f in feeds.items()}
        own = [_own(pipeline, wires[i], feeds[i], settings) for i in wires]
        in_place, folder = pipeline.notes, pipeline.folder
    found: dict[str, list[dict[str, Timing]]] = {"autovoice": own}
    notes = [f" note: {note}" for note in in_place]
    for contender in settings.against:
        try:
            found[contender.name] = _against(invocation, contender, wires, settings)
        except (BuildFailed, AutovoiceError) as e:
            notes.append(f" note: no {contender.name}: {str(e).splitlines()[0]}")
    print(_format_table(settings, found, [c.name for c in invocation.graph.components]))
    say(*notes, f" {_where()}, medians of {settings.runs} calls after {settings.warm_up}, in ms")
    path = folder / "benchmark.json"
    write_atomically(path, json.dumps(_data(settings, found) | {"in_place": list(in_place)}, indent=1).encode() + b"\n")
    say(str(path))
    return 0


def read(invocation: Invocation) -> Settings:
    """The node `benchmark:`. Raises ConfigError."""
    faults: list[Fault] = []
    r = Reader(invocation.data.get("benchmark") or {}, "benchmark", faults, "{runs: 100}")
    dims = invocation.graph.dims
    chosen = {}
    for name, values in r.take("sizes", dict, {}, "{frames: [128, 512]}").items():
        values = values if isinstance(values, list) else [values]
        _check_sizes(r, str(name), values, dims)
        chosen[str(name)] = values
    sizes = tuple(dict(zip(chosen, row, strict=True)) for row in product(*chosen.values()))
    warm_up, runs = r.take("warm_up", int, 5), r.take("runs", int, 100)
    if min(warm_up, runs) < 1:
        r.fault("runs", f"warm_up {warm_up}, runs {runs}", "at least 1 of each")
    reader = SpecReader(invocation.data, invocation.lookup)
    against = tuple(
        _baseline(reader, name, c) for name, c in r.children("against", "{backend: torch, precision: fp32}")
    )
    r.done()
    if faults + reader.faults:
        raise ConfigError([*faults, *reader.faults])
    return Settings(sizes, warm_up, runs, against)


def _check_sizes(r: Reader, name: str, values: Sequence[Any], dims: Mapping[str, Dim]) -> None:
    if name not in dims or dims[name].formula is not None:
        free = [n for n, d in dims.items() if d.formula is None]
        r.fault(f"sizes.{name}", f"there is no free dim '{name}'", nearest(name, free))
        return
    low, high = dims[name].min, dims[name].max
    for v in values:
        if type(v) is not int or not low <= v <= high:
            r.fault(f"sizes.{name}", f"{v!r} is outside the built profile {low} … {high}", f"dims.{name}.max=…")


def _baseline(reader: SpecReader, name: str, r: Reader) -> Baseline:
    backend, precision = r.take("backend", str), r.take("precision", str)
    made = Baseline(
        name,
        reader.named("backend", backend, r.path("backend"), reader.backend),
        reader.named("precision", precision, r.path("precision"), reader.precision),
        r.take("session", dict, {}),
    )
    if made.precision.quantize is not None:
        r.fault("precision", f"{precision} needs calibration", "a floating point precision; or build it, by precision=")
    r.done()
    return made


# -- what is fed ---------------------------------------------------------------------------------


def _feeds(invocation: Invocation, sizes: Mapping[str, int]) -> Arrays:
    spec: BuildSpec = invocation.graph.spec
    at = sizes_of(spec.dims, sizes)
    declared = {t.name: example(t) for t in invocation.graph.inputs}
    return {n: draw(n, t, at, np.random.default_rng([0, *n.encode()])) for n, t in declared.items()}


def sizes_of(dims: Mapping[str, Dim], chosen: Mapping[str, int]) -> dict[str, int]:
    """Every dim: as chosen, else following those its profile follows, else at opt."""
    free = {n: chosen.get(n, d.opt) for n, d in dims.items() if d.formula is None and d.profile is None}
    for n, d in dims.items():
        if d.formula is None and d.profile is not None:
            free[n] = chosen[n] if n in chosen else evaluate(d.profile, free)
    return solved(free, {n: d.formula for n, d in dims.items() if d.formula is not None})


def _every_wire(pipeline: Pipeline) -> list[str]:
    return [o["wire"] for c in pipeline.manifest["components"] for o in c["outputs"].values()]


# -- what is timed -------------------------------------------------------------------------------


def _own(pipeline: Pipeline, wires: Arrays, feeds: Arrays, settings: Settings) -> dict[str, Timing]:
    found = {}
    for c in pipeline.manifest["components"]:
        session = pipeline.components[c["name"]].session
        call = timed_call(session, {local: wires[wire] for local, wire in c["inputs"].items()})
        found[c["name"]] = timed(call, settings.warm_up, settings.runs)
    placed = pipeline.put(feeds)

    def whole() -> None:
        pipeline.run(placed, on_device=True)
        pipeline.wait()

    return found | {WHOLE: timed(whole, settings.warm_up, settings.runs)}


def _against(
    invocation: Invocation, contender: Baseline, wires: Mapping[int, Arrays], settings: Settings
) -> list[dict[str, Timing]]:
    graph = invocation.graph
    parts = graph.parts if contender.backend.from_module else graph.components  # modules are never merged
    steps = [baseline_steps(graph, c, contender) for c in parts]
    records = run_steps(invocation, [s for group in steps for s in group])
    folders = {c.name: invocation.store.folder(records[g[-1].id].key) for c, g in zip(parts, steps, strict=True)}
    with machine_shared(), Shared() as shared, ExitStack() as stack:
        sessions = {}
        for c in parts:
            loader = loaded_as(c, contender)
            sessions[c.name] = stack.enter_context(session_of(loader, folders[c.name], outputs_of(c), shared))
        return [_timed(graph.components, parts, sessions, w, settings) for w in wires.values()]


def _timed(
    components: Sequence[Component],
    parts: Sequence[Component],
    sessions: Mapping[str, Session],
    wires: Arrays,
    settings: Settings,
) -> dict[str, Timing]:
    """`parts` are what runs: of a fused component its members, where they are not merged."""
    found = {}
    for c in components:
        if c.name in sessions:
            call = timed_call(sessions[c.name], {i.local: wires[i.wire] for i in c.inputs})
        else:
            call = _chain(c.members, sessions, wires)
        found[c.name] = timed(call, settings.warm_up, settings.runs)
    return found | {WHOLE: timed(_chain(parts, sessions, wires), settings.warm_up, settings.runs)}


def _chain(parts: Sequence[Component], sessions: Mapping[str, Session], wires: Arrays) -> Callable[[], None]:
    """A call of one after another; what none of them makes is where its reader wants it."""
    own = {o.tensor.name for c in parts for o in c.outputs}
    placed: dict[str, Any] = {}
    for c in parts:
        got = sessions[c.name].put({i.local: wires[i.wire] for i in c.inputs if i.wire not in own})
        placed |= {i.wire: got[i.local] for i in c.inputs if i.local in got}

    def call() -> None:
        made = dict(placed)
        for c in parts:
            session = sessions[c.name]
            got = session.run(read_by(session, {i.local: made[i.wire] for i in c.inputs}))
            made |= {o.tensor.name: got[o.local] for o in c.outputs}
        sessions[parts[-1].name].wait()

    return call


# -- what is told --------------------------------------------------------------------------------


def _format_table(settings: Settings, found: Mapping[str, Sequence[Mapping[str, Timing]]], names: Iterable[str]) -> str:
    others = [n for n in found if n != "autovoice"]
    rows = []
    for i, sizes in enumerate(settings.sizes):
        for name in (*names, WHOLE):
            ours = found["autovoice"][i][name].median
            beside = [found[n][i][name].median for n in others]
            best = f"{min(beside) / ours:.2f}×" if beside else ""
            at = ", ".join(f"{d}={v}" for d, v in sizes.items()) or "opt"
            rows.append([name, at, f"{ours:.3f}", *(f"{b:.3f}" for b in beside), best])
    return table(["component", "at", "autovoice", *others, "faster than the best"], rows)


def _data(settings: Settings, found: Mapping[str, Sequence[Mapping[str, Timing]]]) -> dict[str, Any]:
    timings = {
        name: [
            {"sizes": s, "ms": {c: asdict(t) for c, t in by.items()}}
            for s, by in zip(settings.sizes, rows, strict=True)
        ]
        for name, rows in found.items()
    }
    return {"machine": _where(), "warm_up": settings.warm_up, "runs": settings.runs, "timings": timings}


def _where() -> str:
    from autovoice.machine.gpus import gpus

    found = gpus()
    return f"{found[0].name}, {machine()}" if found else machine()
