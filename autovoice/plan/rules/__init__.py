"""The steps of a graph, each a pure record: the parameters it reads, what it needs, whose code it is.

    inputs ─────────────► reference ──────────────┐
                          (upstream references)   │
    export ──► lower ──► (passes) ──► build ──► (race) ──► verify      per component
       │         ▲                      └────────────────► swaps, end_to_end    once
       ▼         │
    observe ► ranges                where a precision is calibrated; what it observes comes from
       ▲                            `samples`, through the `activations` of what stands upstream
    samples ► activations

Between the exports of members and the lowering of the component that they are fused into stands `fuse`.
Of an engine that cannot run here, verify and end_to_end read the graph that its build needs (see `held`).
A step's `run` function is handed these fields and nothing else, so what a key covers and what a step reads
cannot drift apart.
"""

from autovoice.graph.wiring import Graph
from autovoice.plan.rules.calibration import calibration_steps, method_checks
from autovoice.plan.rules.component import built, calibrated, reference, source
from autovoice.plan.rules.environment import check_environments, runs_here
from autovoice.plan.rules.fallback import fallback_steps
from autovoice.plan.rules.fused import fuse
from autovoice.plan.rules.gate_subject import gate_subject
from autovoice.plan.rules.pipeline import end_to_end, inputs, latency, swaps
from autovoice.plan.rules.step import Step, engine_of

__all__ = ["Step", "engine_of", "steps_of"]


def steps_of(graph: Graph) -> tuple[Step, ...]:
    """All steps of a build, every step after the steps it needs.

    Raises ConfigError for what the backends cannot build here.
    """
    check_environments(graph)
    steps = [inputs(graph)]
    quantized = [c for c in graph.components if c.quantized]
    observed = [p for c in quantized for p in calibrated(c)]
    calibration = calibration_steps(graph, observed)
    steps += calibration.pop("", [])
    for c in graph.components:
        for part in c.parts:
            steps += [source(graph, part), *calibration.get(part.name, []), reference(graph, part)]
        if c.members:
            steps += [fuse(graph, c), *calibration.get(c.name, [])]
        steps += [*built(graph, c), *fallback_steps(graph, c)]
    steps += method_checks(observed)
    if any(gate_subject(c.primary) is None for c in graph.components):
        return tuple(steps)
    if quantized and len(graph.components) > 1:
        steps.append(swaps(graph))
    if graph.spec.timed and all(runs_here(c.primary) for c in graph.components):
        steps.append(latency(graph))
    return (*steps, end_to_end(graph))
