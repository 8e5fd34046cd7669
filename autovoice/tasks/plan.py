"""`task=plan`: every step, run or reuse, and the sentence why. Executes nothing, imports no tool."""

from __future__ import annotations

from collections.abc import Iterable

from autovoice.invocation import Invocation
from autovoice.plan import Plan, Planned


def run(invocation: Invocation) -> int:
    print(headline(invocation))
    print(shown(invocation.plan))
    return 0


def headline(invocation: Invocation) -> str:
    """`voice_conversion on onnxruntime, fp16: 32 steps, 9 to run, 23 reused`."""
    steps, left = len(invocation.plan.steps), len(invocation.plan.to_run)
    return f"{invocation.title}: {steps} steps, {left} to run, {steps - left} reused"


def shown(plan: Plan, only_runs: bool = False) -> str:
    """A block a component, a line a step; with `only_runs`, components with nothing to do take one line."""
    blocks = []
    groups = [("pipeline", plan.of("")), *((c.name, plan.of(c.name)) for c in plan.graph.components)]
    width = max(len(name) for name, _ in groups)
    for name, steps in groups:
        lines = list(_lines(steps, only_runs)) or ["nothing to do"]
        blocks += [f" {name if i == 0 else '':<{width}}  {line}" for i, line in enumerate(lines)]
    return "\n".join(blocks)


def _lines(steps: Iterable[Planned], only_runs: bool) -> Iterable[str]:
    for planned in steps:
        if planned.record is not None and only_runs:
            continue
        verb = "reuse" if planned.record is not None else "run"
        yield f"{planned.step.id.rpartition('.')[2]:<10} {verb:<5}  {reason(planned)}"


def reason(planned: Planned, most: int = 2) -> str:
    """The first reasons, and how many more `task=explain` would show."""
    more = len(planned.why) - most
    text = "; ".join(w if len(w) <= 90 else f"{w[:89]}…" for w in planned.why[:most])
    return text + (f" (+{more} more)" if more > 0 else "")
