"""The steps of the whole pipeline: its inputs, the swaps of its components, and end to end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from autovoice.dims.expressions import symbols
from autovoice.graph.wiring import Graph
from autovoice.machine.sharing import machine
from autovoice.plan.rules.gate_subject import GateSubject, gate_subject
from autovoice.plan.rules.step import Step, engine_of, export_of, pipeline_step
from autovoice.plan.rules.tensors import (
    dims_of,
    example,
    input_ports,
    outputs_of,
    profiles,
    referred,
    senders,
    symbols_of,
)
from autovoice.plan.rules.verify import about, audio_of, exports, gates
from autovoice.spec import ERRORS

if TYPE_CHECKING:
    from autovoice.spec.ports import SentPort
    from autovoice.steps.fields import EndToEndFields, InputsFields, LatencyFields, LinkField, SwapsFields


def inputs(graph: Graph) -> Step:
    """Seeded external inputs at min, opt, max and between: all that are declared, whatever part is built."""
    declared = graph.spec.pipeline.inputs
    used = dims_of(symbols_of(t.shape for t in declared), graph.dims)
    dims = profiles(used)
    for name, d in used.items():
        if d.profile is not None and symbols(d.profile) <= used.keys():
            dims[name]["follows"] = d.profile  # between the profile's points too: sizes that belong together
    fields: InputsFields = {"tensors": {t.name: example(t) for t in declared}, "dims": dims, "seed": 0}
    return pipeline_step("inputs", "inputs", fields)


def end_to_end(graph: Graph) -> Step:
    """The whole built pipeline against the whole float32 reference."""
    # the loosest threshold of the precisions in use: the weakest component bounds the whole
    loosest: dict[str, float] = {}
    audio = {w: rate for c in graph.components for w, rate in audio_of(c).items() if w in graph.outputs}
    for c in graph.components:
        for metric, threshold in gates(c.gate.end_to_end, c.primary, bool(audio)).items():
            pick = max if metric in ERRORS else min
            loosest[metric] = pick(loosest.get(metric, threshold), threshold)
    fields: EndToEndFields = {
        "components": _components(graph),
        "references": _references(graph),
        "gates": loosest,
        "about": {c.name: about(c.primary) for c in graph.components},
        "audio": audio,
    }
    if not all(c.gate.enforced for c in graph.components):
        fields["enforce"] = False
    holders = [str(graph.producers[wire]) for wire in fields["references"]]
    return _gated(graph, "end_to_end", fields, exports(graph, holders) if audio else {})


def swaps(graph: Graph) -> Step:
    """The float32 pipeline with one component after another replaced by its engine: what each one costs."""
    lowered = [c.name for c in graph.components if c.primary.precision.type != "float32"]
    fields: SwapsFields = {
        "components": _components(graph),
        "references": _references(graph),
        "lowered": lowered,
    }
    return _gated(graph, "swaps", fields, {f"export:{c.name}": export_of(c) for c in graph.components})


def latency(graph: Graph) -> Step:
    """The built pipeline timed at opt."""
    fields: LatencyFields = {"components": _components(graph), "machine": machine()}
    needs = {"inputs": "inputs"} | {f"build:{c.name}": engine_of(c) for c in graph.components}
    targets = tuple(sorted({c.backend.target for c in graph.components}))
    return pipeline_step("latency", "latency", fields, needs, targets=targets)


def _gated(graph: Graph, kind: str, fields: EndToEndFields | SwapsFields, more: Mapping[str, str]) -> Step:
    """A step that runs the gate subjects of all components."""
    needs = {"inputs": "inputs"}
    needs |= {f"build:{name}": one.step for name, one in _subjects(graph).items()}
    needs |= senders(fields["references"])
    targets = tuple(sorted({one.backend.target for one in _subjects(graph).values()}))
    return pipeline_step(kind, kind, fields, needs | dict(more), targets=targets)


def _subjects(graph: Graph) -> dict[str, GateSubject]:
    """By component; only ever asked where every one of them can be held against something."""
    return {c.name: one for c in graph.components if (one := gate_subject(c.primary)) is not None}


def _components(graph: Graph) -> dict[str, LinkField]:
    run = _subjects(graph)
    return {
        c.name: {"backend": run[c.name].loader, "inputs": input_ports(c), "outputs": outputs_of(c)}
        for c in graph.components
    }


def _references(graph: Graph) -> dict[str, SentPort]:
    """The pipeline's outputs by wire, each with whose reference holds it."""
    made = (o.tensor.name for c in graph.parts for o in c.outputs)
    return referred(graph, {wire: {"wire": wire} for wire in made if wire in graph.outputs})
