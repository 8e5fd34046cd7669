"""`task=benchmark`: the built pipeline beside the same modules run otherwise, at sizes of the user's choice.

Every number is the median time of calls that wait for their answer, inputs and outputs where the engine has them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from autovoice.backends.base import Session, on_host
from autovoice.backends.chain import Link, built_chain, link, run_chain, timed_call, timed_chain
from autovoice.command.benchmark_settings import Settings, read_benchmark
from autovoice.command.builds import BuildFailed, run_steps
from autovoice.command.invocation import Invocation
from autovoice.dims.example_values import draw
from autovoice.dims.solving import joint_sizes
from autovoice.errors import AutovoiceError, ConfigError, Fault, StoreError, choices, first_line
from autovoice.machine.sharing import machine, machine_shared
from autovoice.measure.bench import Timing, timed
from autovoice.plan.rules.baseline import Baseline, baseline_steps, loaded_as
from autovoice.plan.rules.tensors import example, input_ports, outputs_of, profiles
from autovoice.runtime.pipeline import Pipeline
from autovoice.spec import BuildSpec, Component, Dim
from autovoice.spec.ports import wires as wires_of
from autovoice.store.atomic import write_atomically
from autovoice.tasks.run import loaded
from autovoice.terminal.escape import say
from autovoice.terminal.overrides import setting
from autovoice.terminal.table import table

if TYPE_CHECKING:
    from autovoice.steps.fields import LinkField


WHOLE = "end to end"
Arrays = dict[str, np.ndarray]
Timings = dict[str, Timing]
Links = Sequence[Link[Session]]


def run(invocation: Invocation) -> int:
    invocation.check()
    settings = read_benchmark(invocation)
    with _store_in_use(invocation, settings):
        found, notes, folder = _measured(invocation, settings)
    print(_format_table(settings, found, [c.name for c in invocation.graph.components]))
    how = f"{_where()}, medians of {settings.runs} calls after {settings.warm_up}, in ms"
    say(*(f" note: {note}" for note in notes), f" {how}")
    path = folder / "benchmark.json"
    write_atomically(path, json.dumps(_data(settings, found) | {"notes": notes}, indent=1).encode() + b"\n")
    say(str(path))
    return 0


@contextmanager
def _store_in_use(invocation: Invocation, settings: Settings) -> Iterator[None]:
    """From before baselines are planned until they were timed, nothing of them may be removed."""
    with ExitStack() as held:
        if settings.against:
            try:
                held.enter_context(invocation.store.in_use())
            except StoreError as e:
                fix = f"{e.fix}; or benchmark.against=null, which builds no baselines" if e.fix else _ALONE
                raise StoreError(f"benchmark.against: baselines are built in the store: {e.fact}", fix) from e
        yield


_ALONE = "paths.outputs=/where/one/can/write, or benchmark.against=null, which builds no baselines"


def _measured(invocation: Invocation, settings: Settings) -> tuple[dict[str, list[Timings]], list[str], Path]:
    """Timings by who is timed, each at every size; what is to be noted; the folder that was timed."""
    with loaded(invocation) as pipeline, machine_shared():
        links = _links(invocation.graph.components, pipeline)
        feeds = [_feeds(invocation, sizes) for sizes in settings.sizes]
        wires = [on_host(run_chain(links, f)) for f in feeds]
        own = [_own(pipeline, links, w, f, settings) for w, f in zip(wires, feeds, strict=True)]
        notes, folder = list(pipeline.notes), pipeline.folder
    found = {"autovoice": own}
    for contender in settings.against:
        try:
            found[contender.name], said = _against(invocation, contender, wires, settings)
            notes += [f"{contender.name}: {note}" for note in said]
        except (BuildFailed, AutovoiceError) as e:
            notes.append(f"no {contender.name}: {first_line(e)}")
    return found, notes, folder


# -- what is fed ---------------------------------------------------------------------------------


def _feeds(invocation: Invocation, sizes: Mapping[str, int]) -> Arrays:
    spec: BuildSpec = invocation.graph.spec
    at = sizes_of(spec.dims, sizes)
    declared = {t.name: example(t) for t in invocation.graph.inputs}
    return {n: draw(n, t, at, np.random.default_rng([0, *n.encode()])) for n, t in declared.items()}


def sizes_of(dims: Mapping[str, Dim], chosen: Mapping[str, int]) -> dict[str, int]:
    """Every dim: as chosen, else following those its profile follows, else at opt."""
    records = {n: {**p, "follows": dims[n].profile} for n, p in profiles(dims).items()}
    free = {n: chosen.get(n, d.opt) for n, d in dims.items() if d.formula is None}
    return joint_sizes(records, free, fixed=chosen)


# -- what is timed -------------------------------------------------------------------------------


def _links(components: Sequence[Component], pipeline: Pipeline) -> Links:
    """Of a folder those components that the configuration has, in its order. Raises ConfigError for one it has not."""
    folder = {c["name"]: c for c in pipeline.manifest["components"]}
    links = []
    for c in components:
        if folder.get(c.name, {}).get("inputs") != {i.local: i.wire for i in c.inputs}:
            fact = f"'{pipeline.folder}' has no {c.name} that reads {choices(i.wire for i in c.inputs)}"
            fix = f"{setting('targets', [*folder])} are all it has; without folder= the configuration is built"
            raise ConfigError([Fault("folder", fact, fix)])
        inputs, outputs = folder[c.name]["inputs"], wires_of(folder[c.name]["outputs"])
        links.append(link(c.name, pipeline.components[c.name].session, inputs, outputs))
    return links


def _own(pipeline: Pipeline, links: Links, wires: Arrays, feeds: Arrays, settings: Settings) -> Timings:
    calls = {one.name: timed_call(one.session, one.feeds(wires)) for one in links}
    found = {name: timed(call, settings.warm_up, settings.runs) for name, call in calls.items()}
    if len(links) < len(pipeline.components):  # `targets`: no more than what is beside it is made of
        return found | {WHOLE: timed(timed_chain(links, feeds), settings.warm_up, settings.runs)}
    placed = pipeline.put(feeds)

    def whole() -> None:
        pipeline.run(placed, on_device=True)
        pipeline.wait()

    return found | {WHOLE: timed(whole, settings.warm_up, settings.runs)}


def _against(
    invocation: Invocation, contender: Baseline, wires: Sequence[Arrays], settings: Settings
) -> tuple[list[Timings], list[str]]:
    """Timings at every size, and what did not go as configured."""
    graph = invocation.graph
    parts = graph.parts if contender.backend.from_module else graph.components  # modules are never merged
    steps = [baseline_steps(graph, c, contender) for c in parts]
    records = run_steps(invocation, [s for group in steps for s in group])
    builds = {c.name: invocation.store.folder(records[g[-1].id].key) for c, g in zip(parts, steps, strict=True)}
    with machine_shared(), built_chain({c.name: _record(c, contender) for c in parts}, builds) as links:
        found = [_timed(graph.components, links, w, settings) for w in wires]
        return found, [f"{one.name}: {note}" for one in links for note in one.session.notes]


def _record(c: Component, baseline: Baseline) -> LinkField:
    return {"backend": loaded_as(c, baseline), "inputs": input_ports(c), "outputs": outputs_of(c)}


def _timed(components: Sequence[Component], links: Links, wires: Arrays, settings: Settings) -> Timings:
    """`links` are what runs: of a fused component its members, where they are not merged."""
    found, by_name = {}, {one.name: one for one in links}
    for c in components:
        if c.name in by_name:
            call = timed_call(by_name[c.name].session, by_name[c.name].feeds(wires))
        else:
            call = timed_chain([by_name[m.name] for m in c.members], wires)
        found[c.name] = timed(call, settings.warm_up, settings.runs)
    return found | {WHOLE: timed(timed_chain(links, wires), settings.warm_up, settings.runs)}


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
