"""The steps that lead to the ranges of a component's activations."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autovoice.graph.wiring import Graph, ancestors
from autovoice.plan.rules.environment import implicit
from autovoice.plan.rules.step import Step, component_step, export_of, pipeline_step, target, targets_of
from autovoice.plan.rules.tensors import dims_of, example, formulas, inputs_of, outputs_of, profiles, symbols_of
from autovoice.spec import Calibration, Component

if TYPE_CHECKING:
    from autovoice.spec.fields import ExampleField
    from autovoice.spec.ports import SentPort
    from autovoice.steps.fields import (
        ActivationsFields,
        CoverageFields,
        MethodsFields,
        ObserveFields,
        RangesCalibratorFields,
        RangesFields,
        SamplesFields,
    )

#: the role under which a component reads samples of its own
SAMPLES = "samples"
#: the file under which ranges are given; where it is missing, this is the key that mends it
RANGES = "calibration.ranges"
#: the key that names the files of samples
FILES = "calibration.files"


def calibration_steps(
    graph: Graph, components: Iterable[Component], beside: Iterable[str] = ()
) -> dict[str, list[Step]]:
    """By component, "" for the whole pipeline: what must run before these components can be quantized.

    Of components `beside` them, the activations are wanted too.
    """
    found: dict[str, list[Step]] = {}
    shared: dict[str, tuple[Calibration, list[Component]]] = {}
    wanted = [c for c in components if not _cached(c)]
    for c in wanted:
        if c.calibration.source is not None and c.calibration.level == "pipeline":
            shared.setdefault(label(graph, c.calibration), (c.calibration, []))[1].append(c)
    for calibration, users in shared.values():
        found.setdefault("", []).extend(pipeline_samples(graph, calibration))
        others = ancestors(graph.parts, graph.producers, beside) | upstream(graph, users)
        for c in graph.parts:
            if c.name in others:
                found.setdefault(c.name, []).append(activations(graph, c, calibration))
    for c in wanted:
        found.setdefault(c.name, []).extend(_ranges(graph, c))
    return found


def method_checks(components: Iterable[Component]) -> list[Step]:
    """For every calibration that names tensors by patterns: that each means one, in some component that shares it."""
    shared: list[tuple[Calibration, list[Component]]] = []
    for c in components:
        if c.calibration.source is None or len(c.calibration.method) == 1 or implicit(c.primary):
            continue
        known = next((users for calibration, users in shared if calibration == c.calibration), None)
        if known is None:
            shared.append((c.calibration, known := []))
        known.append(c)
    found = []
    for i, (calibration, users) in enumerate(shared):
        fields: MethodsFields = {"patterns": [p for p in calibration.method if p != "default"]}
        needs = {f"ranges:{c.name}": f"{c.name}.ranges" for c in users}
        name = f"methods_{calibration.name}" + (f"_{i + 1}" if i else "")
        found.append(pipeline_step(name, "methods", fields, needs))
    return found


def label(graph: Graph, calibration: Calibration) -> str:
    """The calibration's name, with a digest of its data where another of that name has other samples."""
    others = (c.calibration for c in graph.parts if c.quantized and c.calibration.level == calibration.level)
    same = [o for o in others if o.name == calibration.name]
    if all(_data(o) == _data(same[0]) for o in same):
        return calibration.name
    return f"{calibration.name}_{hashlib.sha256(repr(_data(calibration)).encode()).hexdigest()[:6]}"


def _data(calibration: Calibration) -> tuple[Any, ...]:
    """What samples depend on; how ranges are chosen from them is not part of it."""
    return calibration.source, calibration.files, calibration.min_samples


def upstream(graph: Graph, components: Iterable[Component]) -> set[str]:
    """Everything that one of these reads from, directly or not."""
    read = {p for c in components for i in c.inputs if (p := graph.producers[i.wire])}
    return ancestors(graph.parts, graph.producers, read)


def pipeline_samples(graph: Graph, calibration: Calibration) -> list[Step]:
    """What the source gives for the pipeline's inputs, and whether it covers their profile."""
    # all that are declared, whatever part is built: samples do not depend on `targets`
    tensors = {t.name: example(t) for t in graph.spec.pipeline.inputs}
    given, checked = _sampled(graph, calibration, tensors, "")
    called = label(graph, calibration)
    name = f"samples_{called}"
    files = _files(calibration)
    made = pipeline_step(name, "samples", given, {}, files, _targets(calibration))
    made = replace(made, places=_places(files))
    return [made, pipeline_step(f"coverage_{called}", "coverage", checked, {SAMPLES: name})]


def component_samples(graph: Graph, c: Component) -> list[Step]:
    """The same for a component's own inputs."""
    tensors = {i.local: example(graph.tensors[i.wire]) for i in c.inputs}
    given, checked = _sampled(graph, c.calibration, tensors, c.name)
    calibration = c.calibration
    files = _files(calibration)
    made = component_step(c, "samples", given, {}, files, _targets(calibration))
    made = replace(made, places=_places(files))
    return [made, component_step(c, "coverage", checked, {SAMPLES: f"{c.name}.samples"})]


def _sampled(
    graph: Graph, calibration: Calibration, tensors: Mapping[str, ExampleField], component: str
) -> tuple[SamplesFields, CoverageFields]:
    """Fields of the samples, which are the same whatever the profile, and of the check against the profile."""
    assert calibration.source is not None
    used = dims_of(symbols_of(t["shape"] for t in tensors.values()), graph.dims)
    given: SamplesFields = {
        "component": component,
        "source": target(calibration.source),
        "inputs": tensors,
        "formulas": formulas(used),
        "symbols": sorted(used),
        "min_samples": calibration.min_samples,
    }
    return given, {"component": component, "inputs": tensors, "dims": profiles(used)}


def _targets(calibration: Calibration) -> tuple[str, ...]:
    assert calibration.source is not None
    return targets_of(calibration.source)


def _files(calibration: Calibration) -> dict[str, Path]:
    return {f"data {name}": path for name, path in calibration.files}


def _places(files: Iterable[str]) -> dict[str, str]:
    return dict.fromkeys(files, FILES)


def activations(graph: Graph, c: Component, calibration: Calibration) -> Step:
    """What the float32 graph of a component answers to each sample: the samples of whoever reads it."""
    fields: ActivationsFields = {"reads": sample_reads(graph, c, calibration), "outputs": outputs_of(c)}
    needs = {"export": f"{c.name}.export"} | sample_needs(graph, c, calibration)
    return component_step(c, "activations", fields, needs, name=f"activations_{label(graph, calibration)}")


def sample_reads(graph: Graph, c: Component, calibration: Calibration) -> dict[str, SentPort]:
    """Who has the samples of its inputs; samples of its own know these by its own names."""
    if calibration.level == "component":
        return {i.local: {"role": SAMPLES, "wire": i.local} for i in c.inputs}
    return {i.local: {"role": _role(graph.producers[i.wire]), "wire": i.wire} for i in c.inputs}


def sample_needs(graph: Graph, c: Component, calibration: Calibration) -> dict[str, str]:
    if calibration.level == "component":
        return {SAMPLES: f"{c.name}.samples"}
    producers, name = dict.fromkeys(graph.producers[i.wire] for i in c.inputs), label(graph, calibration)
    return {_role(p): f"{p}.activations_{name}" if p else f"samples_{name}" for p in producers}


def _role(producer: str | None) -> str:
    return f"activations:{producer}" if producer else SAMPLES


def _cached(c: Component) -> bool:
    """True where the tool's own calibration cache is given: no sample is looked at."""
    return implicit(c.primary) and c.precision.implicit is not None and c.precision.implicit.cache is not None


def _ranges(graph: Graph, c: Component) -> list[Step]:
    """From samples, from the user's calibrator, or from the user's file."""
    calibration, export = c.calibration, {"export": export_of(c)}
    if calibration.ranges is not None:
        path = calibration.ranges / f"{c.name}.json" if calibration.ranges.is_dir() else calibration.ranges
        return [component_step(c, "ranges_given", {}, export, {RANGES: path}, name="ranges")]
    if calibration.calibrator is not None:
        by, code, files = target(calibration.calibrator), targets_of(calibration.calibrator), _files(calibration)
        given: RangesCalibratorFields = {"component": c.name, "calibrator": by, "inputs": inputs_of(graph, c)}
        made = component_step(c, "ranges_calibrator", given, export, files, code, "ranges")
        return [replace(made, places=_places(files))]
    own_samples = component_samples(graph, c) if calibration.level == "component" else []
    if implicit(c.primary):  # its tool observes for itself
        return own_samples
    shards = [_observe(graph, c, i) for i in range(calibration.shards)]
    needs = export | {s.id.removeprefix(f"{c.name}."): s.id for s in shards}
    fields: RangesFields = {"method": dict(calibration.method), "percentile": calibration.percentile}
    return [*own_samples, *shards, component_step(c, "ranges", fields, needs)]


def _observe(graph: Graph, c: Component, shard: int) -> Step:
    """Extrema, and where a method asks for them histograms, over one shard of the samples."""
    calibration = c.calibration
    fields: ObserveFields = {
        "reads": sample_reads(graph, c, calibration),
        "histograms": {pattern: method != "minmax" for pattern, method in calibration.method.items()},
        "shard": [shard, calibration.shards],
    }
    name = f"observe_{shard + 1}of{calibration.shards}" if calibration.shards > 1 else "observe"
    needs = {"export": f"{c.name}.export"} | sample_needs(graph, c, calibration)
    return component_step(c, "observe", fields, needs, name=name)
