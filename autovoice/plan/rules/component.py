"""The steps of one component: export, reference, lower, passes, build, verify, and the race of a quantized build."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from autovoice.graph.wiring import Graph, ancestors
from autovoice.machine.sharing import machine
from autovoice.plan.rules.calibration import sample_needs, sample_reads
from autovoice.plan.rules.environment import environment_of, implicit, runs_here
from autovoice.plan.rules.fused import fuse, fused_ranges, policies, policy_needs
from autovoice.plan.rules.gate_subject import gate_subject
from autovoice.plan.rules.profiles import engine_profiles
from autovoice.plan.rules.step import (
    Step,
    backend,
    component_step,
    dims_of,
    export_of,
    formulas,
    inputs_of,
    loader,
    model,
    model_targets,
    onnx_files,
    outputs_of,
    policy,
    reads,
    senders,
    symbols_of,
    target,
    targets_of,
    weights,
)
from autovoice.spec import AUDIO_METRICS, RUNS_HERE, Backend, Component, Keep, Target
from autovoice.spec.names import PASSES

_UNTOUCHED = Target("autovoice.onnx_tools.lowering.floating.keep_float32")


def built(graph: Graph, c: Component) -> list[Step]:
    """From the component's ONNX file to an engine that was held against the reference."""
    c = c.settled
    steps = [fused_ranges(c)] if c.members and c.quantized and not implicit(c) else []
    steps += engine_steps(graph, c)
    if c.raced and runs_here(c):
        high = c.compared
        steps += [*engine_steps(graph, high, f"_{high.precision.name}"), _race(graph, c, high)]
    return [*steps, *verify(graph, c)]


def calibrated(c: Component) -> list[Component]:
    """Whose activations are observed: of a fused component its members', unless the tool observes for itself."""
    return [m for m in c.members if m.quantized] if c.members and not implicit(c) else [c]


def sources(graph: Graph, c: Component) -> list[Step]:
    """All that leads to the component's ONNX file, that one last."""
    return [*(source(graph, p) for p in c.parts), *([fuse(graph, c)] if c.members else [])]


def engine_steps(graph: Graph, c: Component, suffix: str = "") -> list[Step]:
    """From the export to an engine."""
    lower, build = _lower(c, f"lower{suffix}"), _build(graph, c, suffix)
    if not c.backend.passes:
        return [lower, build]
    fields = {"passes": list(c.backend.passes)}
    code = tuple(PASSES.get(name, name) for name in c.backend.passes)
    passes = component_step(c, "passes", fields, {"lower": lower.id}, targets=code, name=f"passes{suffix}")
    return [lower, passes, build]


def source(graph: Graph, c: Component) -> Step:
    """The component as an ONNX file: exported from its module, or its own file, checked."""
    ins, outs = inputs_of(graph, c), outputs_of(c)
    used = dims_of(symbols_of(t["shape"] for t in (*ins.values(), *outs.values())), graph.dims)
    fields = {
        "inputs": ins,
        "outputs": outs,
        "output_order": [o.local for o in c.outputs],
        "export": asdict(c.export),
        "formulas": formulas(used),
        "trace": {n: d.trace for n, d in used.items()},
    }
    if c.onnx is not None:
        return component_step(c, "import_onnx", fields, files=onnx_files(c), name="export")
    return component_step(c, "export", fields | model(c), files=weights(c), targets=model_targets(c))


def reference(graph: Graph, c: Component) -> Step:
    """The float32 outputs of the module itself, on what its producers' modules really send."""
    ins = inputs_of(graph, c)
    used = dims_of(symbols_of(t["shape"] for t in (*ins.values(), *outputs_of(c).values())), graph.dims)
    fields: dict[str, Any] = {
        "reads": reads(graph, c),
        "inputs": ins,
        "outputs": outputs_of(c),
        "output_order": [o.local for o in c.outputs],
        "formulas": formulas(used),
    }
    needs = senders(graph, c)
    if c.onnx is not None:
        return component_step(c, "reference_onnx", fields, needs, onnx_files(c), name="reference")
    return component_step(c, "reference", fields | model(c), needs, weights(c), model_targets(c))


def _lower(c: Component, name: str = "") -> Step:
    needs = {"export": export_of(c)}
    if implicit(c):  # the tool quantizes while it builds
        c = replace(c, precision=replace(c.precision, lowering=_UNTOUCHED, lowerings={}, type="float32"), quantize=None)
    if c.quantized:
        needs["ranges"] = f"{c.name}.ranges"
    needs |= policy_needs(c)
    return component_step(c, "lower", lowering_fields(c), needs, targets=targets_of(c.lowering), name=name)


def lowering_fields(c: Component) -> dict[str, Any]:
    keep = {k: list(v) for k, v in asdict(c.precision.keep | c.keep).items()}
    fields: dict[str, Any] = {
        "precision": {"name": c.precision.name, "type": c.precision.type},
        "lowering": target(c.lowering),
        "keep": keep,
        "own_keep": {k: list(v) for k, v in asdict(c.keep).items()},
    }
    if c.quantize is not None:
        fields["quantize"] = policy(c)
    return fields | policies(c)


def _build(graph: Graph, c: Component, suffix: str = "") -> Step:
    keep: Keep = c.precision.keep | c.keep
    fields: dict[str, Any] = {
        "backend": backend(c.backend),
        "precision": {"name": c.precision.name, "type": c.precision.type, "scope": c.precision.scope},
        "keep": {k: list(v) for k, v in asdict(keep).items()},
        "inputs": inputs_of(graph, c),
        "outputs": outputs_of(c),
    }
    if c.prequantized:
        fields["given"] = list(c.prequantized)
    needs = {"lower": f"{c.name}.lower{suffix}"}
    files: dict[str, Path] = {}
    places: dict[str, str] = {}
    targets: tuple[str, ...] = (c.backend.target,)
    if c.backend.passes:
        needs["passes"] = f"{c.name}.passes{suffix}"
    if c.backend.profiled:
        fields["profiles"] = engine_profiles(graph, c)
    if (environment := environment_of(c)) is not None:
        fields["environment"] = {k: v for k, v in environment.items() if k != RUNS_HERE}
    if c.backend.from_module:
        used = dims_of(
            symbols_of(t["shape"] for t in (*fields["inputs"].values(), *fields["outputs"].values())), graph.dims
        )
        order = [o.local for o in c.outputs]
        fields |= model(c) | {"output_order": order, "trace": {n: d.trace for n, d in used.items()}}
        files, targets = weights(c), (*targets, *model_targets(c))
    if c.quantize is not None:  # what was to be quantized is known by the names of the exported graph
        fields["quantize"] = policy(c)
        needs["export"] = export_of(c)
    fields |= policies(c)
    needs |= policy_needs(c)
    if implicit(c):
        assert c.precision.implicit is not None
        given = c.precision.implicit
        fields["implicit"] = {k: v for k, v in asdict(given).items() if not k.startswith("cache")}
        fields["reads"] = sample_reads(graph, c, c.calibration)
        files = {"precision.implicit.cache": given.cache} if given.cache else {}
        places = dict.fromkeys(files, given.cache_place)
        needs |= sample_needs(graph, c, c.calibration) if not given.cache else {}
    step = component_step(c, "build", fields, needs, files, targets, name=f"build{suffix}")
    return replace(step, after_crash=_ways_round(c.backend), places=places)


def _ways_round(b: Backend) -> tuple[dict[str, Any], ...]:
    """Fields to build with after a crash: the backend's other options, those that are in use already left out."""
    others = (way for way in b.after_crash if any(b.options.get(k) != v for k, v in way.items()))
    return tuple({"backend": {"options": dict(way)}} for way in others)


def _race(graph: Graph, c: Component, high: Component) -> Step:
    """Both builds timed side by side at opt; the faster one's engine, where the component asks for that."""
    names = [p.precision.name for p in (c, high)]
    fields = {
        "backend": loader(c.backend),
        "precisions": names,
        "type": c.precision.type,
        "reads": reads(graph, c),
        "outputs": outputs_of(c),
        "choose": c.only_if_faster,
        "machine": machine(),
    }
    needs = {"build": f"{c.name}.build", "higher": f"{c.name}.build_{names[1]}", **senders(graph, c)}
    return component_step(c, "race", fields, needs, targets=(c.backend.target,))


def verify(graph: Graph, c: Component, suffix: str = "") -> list[Step]:
    """What is held, of the build with this suffix, against the float32 reference; no step where nothing is."""
    one = gate_subject(c, suffix)
    if one is None:
        return []
    fields: dict[str, Any] = {
        "backend": one.loader,
        "reads": reads(graph, c),
        "outputs": outputs_of(c),
        "gates": gates(c.gate.component, c, bool(audio_of(c))),
        "audio": audio_of(c),
        "about": about(c),
    }
    if c.raced and c.only_if_faster:  # what was chosen is judged as what it is
        high = c.compared
        fields["about_of"] = {high.precision.name: about(high)}
        fields["gates_of"] = {high.precision.name: gates(c.gate.component, high, bool(audio_of(c)))}
    needs = {"build": one.step, **senders(graph, c)}
    if c.members:
        fields["references"] = {o.tensor.name: f"made:{graph.producers[o.tensor.name]}" for o in c.outputs}
        needs |= {role: f"{role.removeprefix('made:')}.reference" for role in fields["references"].values()}
    else:
        needs["reference"] = f"{c.name}.reference"
    if fields["audio"]:
        needs |= exports(graph, [p.name for p in c.parts])
    return [component_step(c, "verify", fields, needs, targets=(one.backend.target,), name=f"verify{suffix}")]


def about(c: Component) -> dict[str, Any]:
    """What advice depends on where a gate is missed."""
    precision = c.settled.precision
    return {
        "type": precision.type,
        "gate": precision.judged_as,
        "quantized": c.settled.quantized,
        "given": bool(c.prequantized),
        "module": c.backend.from_module,
        "higher": None if c.settled.higher is None else c.settled.higher.name,
        "members": [m.name for m in c.members],
        "inputs": [i.local for i in c.inputs],
    }


def gates(thresholds: Mapping[str, Mapping[str, float]], c: Component, waveforms: bool) -> dict[str, float]:
    """{metric: threshold} for this component's precision; distances between waveforms where there are any."""
    name = c.settled.precision.judged_as
    named = {metric: by[name] for metric, by in thresholds.items() if name in by}
    return {m: t for m, t in named.items() if m not in AUDIO_METRICS or waveforms}


def audio_of(c: Component) -> dict[str, int]:
    """Output wires that are waveforms, with their sample rates in Hz."""
    return {o.tensor.name: o.tensor.audio for o in c.outputs if o.tensor.audio is not None}


def exports(graph: Graph, names: Iterable[str]) -> dict[str, str]:
    """The exports of these components and of all upstream, whose records tell whether their weights are trained."""
    kept = ancestors(graph.parts, graph.producers, names)
    return {f"export:{c.name}": export_of(c) for c in graph.parts if c.name in kept}
