"""The steps of sensitivity and search, beside those of a build whose results they share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from autovoice.graph.wiring import Graph
from autovoice.plan.rules.calibration import calibration_steps, method_checks, sample_needs, sample_reads
from autovoice.plan.rules.component import lowering_fields, reference, source
from autovoice.plan.rules.pipeline import inputs
from autovoice.plan.rules.step import Step, component_step, policy, targets_of
from autovoice.plan.rules.tensors import output_ports, outputs_of, reads, referred, senders
from autovoice.plan.rules.verify import audio_of, exports, gates
from autovoice.spec import Component

if TYPE_CHECKING:
    from autovoice.steps.fields import ActivationsFields, SearchFields, SensitivityFields, TrialFields

#: samples on which each node is tried
LIMIT = 4
#: policies that a search measures at most
EVALUATIONS = 60


def sensitivity_steps(graph: Graph, components: list[Component]) -> tuple[Step, ...]:
    """Everything that ranks the nodes of these components, every step after the steps it needs."""
    calibration = calibration_steps(graph, components, {n for c in components for n in _beside(graph, c)})
    steps = calibration.pop("", [])
    for c in graph.components:
        steps += [source(graph, c), *calibration.get(c.name, [])]
    return (*steps, *method_checks(components), *(sensitivity(graph, c) for c in components))


def search_steps(graph: Graph, components: list[Component]) -> tuple[Step, ...]:
    """The same, then the search for exclusions that meet the gates."""
    references = [inputs(graph), *(reference(graph, c) for c in graph.components)]
    return (*sensitivity_steps(graph, components), *references, *(search(graph, c) for c in components))


def sensitivity(graph: Graph, c: Component) -> Step:
    """Where samples are the whole pipeline's, damage is measured at its outputs too."""
    after = downstream(graph, c) if c.calibration.level == "pipeline" else []
    made = {c.name, *(d.name for d in after)}
    fields: SensitivityFields = {
        **_trial(c),
        "reads": sample_reads(graph, c, c.calibration),
        "op_types": sorted({*policy(c)["op_types"]}),
        "limit": LIMIT,
        "downstream": {d.name: _downstream(graph, d, c) for d in after},
        "pipeline_outputs": [w for w in graph.outputs if graph.producers[w] in made] if after else [],
    }
    needs = _ranged(c) | sample_needs(graph, c, c.calibration)
    for d in after:
        beside = sample_needs(graph, d, c.calibration)
        needs |= {r: s for r, s in beside.items() if r.removeprefix("activations:") not in made}
        needs[f"export:{d.name}"] = f"{d.name}.export"
    return component_step(c, "sensitivity", fields, needs, targets=targets_of(c.primary.lowering))


def search(graph: Graph, c: Component) -> Step:
    fields: SearchFields = {
        **_trial(c),
        "reads": reads(graph, c),
        "references": referred(graph, output_ports(c)),
        "gates": gates(c.gate.component, c.primary, bool(audio_of(c))),
        "audio": audio_of(c),
        "evaluations": EVALUATIONS,
    }
    needs = _ranged(c) | {"sensitivity": f"{c.name}.sensitivity"}
    needs |= senders(fields["reads"], fields["references"])
    needs |= exports(graph, [c.name]) if audio_of(c) else {}
    return component_step(c, "search", fields, needs, targets=targets_of(c.primary.lowering))


def _beside(graph: Graph, c: Component) -> set[str]:
    """Whose activations the components downstream of `c` read that are not downstream of it themselves."""
    after = downstream(graph, c) if c.calibration.level == "pipeline" else []
    made = {c.name, *(d.name for d in after)}
    return {p for d in after for i in d.inputs if (p := graph.producers[i.wire]) and p not in made}


def downstream(graph: Graph, c: Component) -> list[Component]:
    """Every component that reads, directly or not, what `c` makes, in order."""
    reached = {c.name}
    for other in graph.components:
        if any(graph.producers[i.wire] in reached for i in other.inputs):
            reached.add(other.name)
    return [o for o in graph.components if o.name in reached and o.name != c.name]


def _downstream(graph: Graph, d: Component, c: Component) -> ActivationsFields:
    return {"reads": sample_reads(graph, d, c.calibration), "outputs": outputs_of(d)}


def _trial(c: Component) -> TrialFields:
    return {**lowering_fields(c.primary), "outputs": outputs_of(c)}


def _ranged(c: Component) -> dict[str, str]:
    return {"export": f"{c.name}.export", "ranges": f"{c.name}.ranges"}
