"""The step that holds an engine to its gates, and what it is told of the component."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from autovoice.graph.wiring import Graph, ancestors
from autovoice.plan.rules.gate_subject import gate_subject
from autovoice.plan.rules.step import Step, engine_step, export_of
from autovoice.plan.rules.tensors import output_ports, outputs_of, reads, referred, senders
from autovoice.spec import AUDIO_METRICS, PRIMARY, Component, EngineVariant

if TYPE_CHECKING:
    from autovoice.spec.fields import AboutField
    from autovoice.steps.fields import VerifyFields


def verify(graph: Graph, v: EngineVariant) -> list[Step]:
    """A variant's gate subject against the float32 reference; no step where nothing of it can run here."""
    c, subject = v.component, gate_subject(v)
    if subject is None:
        return []
    fields: VerifyFields = {
        "backend": subject.loader,
        "reads": reads(graph, c),
        "outputs": outputs_of(c),
        "references": referred(graph, output_ports(c)),
        "gates": gates(c.gate.component, v, bool(audio_of(c))),
        "audio": audio_of(c),
        "about": about(v),
    }
    if not c.gate.enforced:
        fields["enforce"] = False
    if v.role == PRIMARY and c.baseline and c.only_if_faster:  # what was chosen is judged as what it is
        name = c.baseline.precision.name
        fields["about_of"] = {name: about(c.baseline)}
        fields["gates_of"] = {name: gates(c.gate.component, c.baseline, bool(audio_of(c)))}
    needs = {"build": subject.step, **senders(fields["reads"], fields["references"])}
    if fields["audio"]:
        needs |= exports(graph, [p.name for p in c.parts])
    return [engine_step(v, "verify", fields, needs, targets=(subject.backend.target,))]


def about(v: EngineVariant) -> AboutField:
    """What advice depends on where a gate is missed."""
    c = v.component
    return {
        "type": v.precision.type,
        "gate": v.precision.judged_as,
        "quantized": v.quantized,
        "given": bool(c.prequantized),
        "module": v.backend.from_module,
        "higher": None if v.higher is None else v.higher.name,
        "members": [m.name for m in c.members],
        "inputs": [i.local for i in c.inputs],
    }


def gates(thresholds: Mapping[str, Mapping[str, float]], v: EngineVariant, waveforms: bool) -> dict[str, float]:
    """{metric: threshold} for a variant's precision; distances between waveforms where there are any."""
    name = v.precision.judged_as
    named = {metric: by[name] for metric, by in thresholds.items() if name in by}
    return {m: t for m, t in named.items() if m not in AUDIO_METRICS or waveforms}


def audio_of(c: Component) -> dict[str, int]:
    """Output wires that are waveforms, with their sample rates in Hz."""
    return {o.tensor.name: o.tensor.audio for o in c.outputs if o.tensor.audio is not None}


def exports(graph: Graph, names: Iterable[str]) -> dict[str, str]:
    """The exports of these components and of all upstream, whose records tell whether their weights are trained."""
    kept = ancestors(graph.parts, graph.producers, names)
    return {f"export:{c.name}": export_of(c) for c in graph.parts if c.name in kept}
