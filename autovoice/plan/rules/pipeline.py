"""The steps of the whole pipeline: its inputs, the swaps of its components, and end to end."""

from __future__ import annotations

from typing import Any

from autovoice.dims.expressions import symbols
from autovoice.graph.wiring import Graph
from autovoice.machine.sharing import machine
from autovoice.plan.rules.gate_subject import GateSubject, gate_subject
from autovoice.plan.rules.step import (
    TOOLS,
    Step,
    code_of,
    dims_of,
    engine_of,
    export_of,
    outputs_of,
    profiles,
    symbols_of,
    tensor,
)
from autovoice.plan.rules.verify import about, audio_of, exports, gates
from autovoice.spec import ERRORS


def inputs(graph: Graph) -> Step:
    """Seeded external inputs at min, opt, max and between: all that are declared, whatever part is built."""
    declared = graph.spec.pipeline.inputs
    tensors = {t.name: tensor(t) | {"default": t.default, "example": t.example} for t in declared}
    used = dims_of(symbols_of(t.shape for t in declared), graph.dims)
    dims = profiles(used)
    for name, d in used.items():
        if d.profile is not None and symbols(d.profile) <= used.keys():
            dims[name]["follows"] = d.profile  # between the profile's points too: sizes that belong together
    fields = {"tensors": tensors, "dims": dims, "seed": 0}
    return Step("inputs", "", "inputs", fields, targets=code_of("inputs"), tools=TOOLS["inputs"])


def end_to_end(graph: Graph) -> Step:
    """The whole built pipeline against the whole float32 reference."""
    # the loosest threshold of the precisions in use: the weakest component bounds the whole
    loosest: dict[str, float] = {}
    audio = {w: rate for c in graph.components for w, rate in audio_of(c).items() if w in graph.outputs}
    for c in graph.components:
        for metric, threshold in gates(c.gate.end_to_end, c.primary, bool(audio)).items():
            pick = max if metric in ERRORS else min
            loosest[metric] = pick(loosest.get(metric, threshold), threshold)
    fields = {
        "components": _components(graph),
        "outputs": _outputs(graph),
        "gates": loosest,
        "about": {c.name: about(c.primary) for c in graph.components},
        "audio": audio,
    }
    return _pipeline_step(graph, "end_to_end", fields, exports(graph, _outputs(graph).values()) if audio else {})


def swaps(graph: Graph) -> Step:
    """The float32 pipeline with one component after another replaced by its engine: what each one costs."""
    lowered = [c.name for c in graph.components if c.primary.precision.type != "float32"]
    fields = {"components": _components(graph), "outputs": _outputs(graph), "lowered": lowered}
    return _pipeline_step(graph, "swaps", fields, {f"export:{c.name}": export_of(c) for c in graph.components})


def latency(graph: Graph) -> Step:
    """The built pipeline timed at opt."""
    fields = {"components": _components(graph), "machine": machine()}
    needs = {"inputs": "inputs"} | {f"build:{c.name}": engine_of(c) for c in graph.components}
    targets = (*code_of("latency"), *sorted({c.backend.target for c in graph.components}))
    return Step("latency", "", "latency", fields, needs, {}, targets, TOOLS["latency"])


def _pipeline_step(graph: Graph, kind: str, fields: dict[str, Any], more: dict[str, str] | None = None) -> Step:
    needs = {"inputs": "inputs"}
    needs |= {f"build:{name}": one.step for name, one in _subjects(graph).items()}
    needs |= {f"reference:{name}": f"{name}.reference" for name in sorted(set(_outputs(graph).values()))}
    targets = (*code_of(kind), *sorted({one.backend.target for one in _subjects(graph).values()}))
    return Step(kind, "", kind, fields, needs | (more or {}), {}, targets, TOOLS[kind])


def _subjects(graph: Graph) -> dict[str, GateSubject]:
    """By component; only ever asked where every one of them can be held against something."""
    return {c.name: one for c in graph.components if (one := gate_subject(c.primary)) is not None}


def _components(graph: Graph) -> dict[str, Any]:
    run = _subjects(graph)
    return {
        c.name: {
            "backend": run[c.name].loader,
            "inputs": {i.local: i.wire for i in c.inputs},
            "outputs": outputs_of(c),
        }
        for c in graph.components
    }


def _outputs(graph: Graph) -> dict[str, str]:
    """The pipeline's outputs, each with whose reference holds it."""
    made = (o.tensor.name for c in graph.parts for o in c.outputs)
    return {wire: str(graph.producers[wire]) for wire in made if wire in graph.outputs}
