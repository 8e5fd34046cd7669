"""The steps of one component: export, reference, lower, passes, build, and the race of a quantized build."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autovoice.graph.wiring import Graph
from autovoice.machine.sharing import machine
from autovoice.plan.rules.calibration import sample_needs, sample_reads
from autovoice.plan.rules.environment import environment_of, implicit, runs_here, timed
from autovoice.plan.rules.fused import fuse, fused_ranges, policies, policy_needs
from autovoice.plan.rules.profiles import engine_profiles
from autovoice.plan.rules.step import (
    Step,
    backend,
    component_step,
    engine_step,
    export_of,
    loader,
    model,
    model_targets,
    onnx_files,
    plain_keep,
    policy,
    target,
    targets_of,
    weights,
)
from autovoice.plan.rules.tensors import dims_of, formulas, inputs_of, outputs_of, reads, senders, symbols_of
from autovoice.plan.rules.verify import verify
from autovoice.spec import RUNS_HERE, Backend, Component, EngineVariant, Implicit, Target
from autovoice.spec.names import PASSES

if TYPE_CHECKING:
    from autovoice.spec.fields import ImplicitField, TracedModuleField
    from autovoice.steps.fields import (
        BuildFields,
        ExportFields,
        ImportOnnxFields,
        LowerFields,
        PassesFields,
        RaceFields,
        ReferenceFields,
        ReferenceOnnxFields,
    )

_UNTOUCHED = Target("autovoice.onnx_tools.lowering.floating.keep_float32")


def built(graph: Graph, c: Component) -> list[Step]:
    """From the component's ONNX file to an engine that was held against the reference."""
    primary, baseline = c.primary, c.baseline
    steps = [fused_ranges(c)] if c.members and primary.quantized and not implicit(primary) else []
    steps += engine_steps(graph, primary)
    if baseline is not None and all(map(runs_here, timed(c))):
        steps += [*engine_steps(graph, baseline), _race(graph, primary, baseline)]
    return [*steps, *verify(graph, primary)]


def calibrated(c: Component) -> list[Component]:
    """Whose activations are observed: of a fused component its members', unless the tool observes for itself."""
    return [m for m in c.members if m.quantized] if c.members and not implicit(c.primary) else [c]


def sources(graph: Graph, c: Component) -> list[Step]:
    """All that leads to the component's ONNX file, that one last."""
    return [*(source(graph, p) for p in c.parts), *([fuse(graph, c)] if c.members else [])]


def engine_steps(graph: Graph, v: EngineVariant) -> list[Step]:
    """From the export to an engine."""
    lower, build = _lower(v), _build(graph, v)
    if not v.backend.passes:
        return [lower, build]
    fields: PassesFields = {"passes": list(v.backend.passes)}
    code = tuple(PASSES.get(name, name) for name in v.backend.passes)
    return [lower, engine_step(v, "passes", fields, {"lower": lower.id}, targets=code), build]


def source(graph: Graph, c: Component) -> Step:
    """The component as an ONNX file: exported from its module, or its own file, checked."""
    ins, outs = inputs_of(graph, c), outputs_of(c)
    used = dims_of(symbols_of(t["shape"] for t in (*ins.values(), *outs.values())), graph.dims)
    fields: ImportOnnxFields = {
        "inputs": ins,
        "outputs": outs,
        "output_order": [o.local for o in c.outputs],
        "export": {"opset": c.export.opset, "simplify": c.export.simplify},
        "formulas": formulas(used),
        "trace": {n: d.trace for n, d in used.items()},
    }
    if c.onnx is not None:
        return component_step(c, "import_onnx", fields, files=onnx_files(c), name="export")
    traced: ExportFields = {**fields, **model(c)}
    return component_step(c, "export", traced, files=weights(c), targets=model_targets(c))


def reference(graph: Graph, c: Component) -> Step:
    """The float32 outputs of the module itself, on what its producers' modules really send."""
    ins = inputs_of(graph, c)
    used = dims_of(symbols_of(t["shape"] for t in (*ins.values(), *outputs_of(c).values())), graph.dims)
    fields: ReferenceOnnxFields = {
        "reads": reads(graph, c),
        "inputs": ins,
        "outputs": outputs_of(c),
        "output_order": [o.local for o in c.outputs],
        "formulas": formulas(used),
    }
    needs = senders(fields["reads"])
    if c.onnx is not None:
        return component_step(c, "reference_onnx", fields, needs, onnx_files(c), name="reference")
    run: ReferenceFields = {**fields, **model(c)}
    return component_step(c, "reference", run, needs, weights(c), model_targets(c))


def _lower(v: EngineVariant) -> Step:
    needs = {"export": export_of(v.component)}
    if implicit(v):  # the tool quantizes while it builds
        v = replace(v, precision=replace(v.precision, lowering=_UNTOUCHED, lowerings={}, type="float32"), quantize=None)
    if v.quantized:
        needs["ranges"] = f"{v.component.name}.ranges"
    needs |= policy_needs(v)
    return engine_step(v, "lower", lowering_fields(v), needs, targets=targets_of(v.lowering))


def lowering_fields(v: EngineVariant) -> LowerFields:
    fields: LowerFields = {
        "precision": {"name": v.precision.name, "type": v.precision.type},
        "lowering": target(v.lowering),
        "keep": plain_keep(v.precision.keep | v.component.keep),
        "own_keep": plain_keep(v.component.keep),
    }
    if v.quantize is not None:
        fields["quantize"] = policy(v)
    if (members := policies(v)) is not None:
        fields["members"] = members
    return fields


def _build(graph: Graph, v: EngineVariant) -> Step:
    c = v.component
    fields: BuildFields = {
        "backend": backend(v.backend),
        "precision": {"name": v.precision.name, "type": v.precision.type, "scope": v.precision.scope},
        "keep": plain_keep(v.precision.keep | c.keep),
        "inputs": inputs_of(graph, c),
        "outputs": outputs_of(c),
    }
    if c.prequantized:
        fields["given"] = list(c.prequantized)
    needs = {"lower": v.step("lower")}
    files: dict[str, Path] = {}
    places: dict[str, str] = {}
    targets: tuple[str, ...] = (v.backend.target,)
    if v.backend.passes:
        needs["passes"] = v.step("passes")
    if v.backend.profiled:
        fields["profiles"] = engine_profiles(graph, c)
    if (environment := environment_of(v)) is not None:
        fields["environment"] = {k: v for k, v in environment.items() if k != RUNS_HERE}
    if v.backend.from_module:
        fields = {**fields, **_module(graph, c)}
        files, targets = weights(c), (*targets, *model_targets(c))
    if v.quantize is not None:  # what was to be quantized is known by the names of the exported graph
        fields["quantize"] = policy(v)
        needs["export"] = export_of(c)
    if (members := policies(v)) is not None:
        fields["members"] = members
    needs |= policy_needs(v)
    if implicit(v):
        assert v.precision.implicit is not None
        given = v.precision.implicit
        fields["implicit"] = _implicit(given)
        fields["reads"] = sample_reads(graph, c, c.calibration)
        files = {"precision.implicit.cache": given.cache} if given.cache else {}
        places = dict.fromkeys(files, given.cache_place)
        needs |= sample_needs(graph, c, c.calibration) if not given.cache else {}
    step = engine_step(v, "build", fields, needs, files, targets)
    return replace(step, after_crash=_ways_round(v.backend), places=places)


def _module(graph: Graph, c: Component) -> TracedModuleField:
    tensors = (*inputs_of(graph, c).values(), *outputs_of(c).values())
    used = dims_of(symbols_of(t["shape"] for t in tensors), graph.dims)
    return {
        **model(c),
        "output_order": [o.local for o in c.outputs],
        "trace": {n: d.trace for n, d in used.items()},
    }


def _implicit(i: Implicit) -> ImplicitField:
    return {
        "calibrator": i.calibrator,
        "min_share": i.min_share,
        "float16": i.float16,
        "prefer_int8": i.prefer_int8,
    }


def _ways_round(b: Backend) -> tuple[dict[str, Any], ...]:
    """Fields to build with after a crash: the backend's other options, those that are in use already left out."""
    others = (way for way in b.after_crash if any(b.options.get(k) != v for k, v in way.items()))
    return tuple({"backend": {"options": dict(way)}} for way in others)


def _race(graph: Graph, primary: EngineVariant, baseline: EngineVariant) -> Step:
    """Both builds timed side by side at opt; the faster one's engine, where the component asks for that."""
    c = primary.component
    fields: RaceFields = {
        "backend": loader(primary.backend),
        "precisions": [v.precision.name for v in (primary, baseline)],
        "type": primary.precision.type,
        "reads": reads(graph, c),
        "outputs": outputs_of(c),
        "choose": c.only_if_faster,
        "machine": machine(),
    }
    needs = {"build": primary.step("build"), "higher": baseline.step("build"), **senders(fields["reads"])}
    return engine_step(primary, "race", fields, needs, targets=(primary.backend.target,))
