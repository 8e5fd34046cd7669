"""`task=plan`: every step, run or reuse, and the sentence why. Executes nothing, imports no tool."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable

from autovoice.command.invocation import Invocation
from autovoice.graph.wiring import Graph
from autovoice.plan.planner import Plan, Planned
from autovoice.terminal.escape import escaped, lines, say


def run(invocation: Invocation) -> int:
    print(headline(invocation))
    print(format_plan(invocation.plan))
    return 0


def headline(invocation: Invocation) -> str:
    """`voice_conversion on onnxruntime, fp16: 32 steps, 9 to run, 23 reused`, below what was chosen for the user."""
    steps, left = len(invocation.plan.steps), len(invocation.plan.to_run)
    counted = f"{invocation.title}: {steps} steps, {left} to run, {steps - left} reused"
    return lines(*invocation.graph.spec.notes, counted)


def tell(graph: Graph) -> None:
    """Print what was chosen for the user, where no headline says it."""
    if graph.spec.notes:
        say(*graph.spec.notes)


def format_plan(plan: Plan, only_runs: bool = False) -> str:
    """A block a component: its steps, run or reuse, and why; steps with the same reason share a line.

    With `only_runs`, what is reused is left out, and a component with nothing to run takes one line.
    """
    components = [p.name for c in plan.graph.components for p in (*c.members, c)]  # members before what they make up
    groups = [("pipeline", plan.of("")), *((name, plan.of(name)) for name in components)]
    blocks = [(name, _lines(steps, only_runs)) for name, steps in groups]
    wide = max(len(name) for name, _ in blocks)
    names = max((len(line[0]) for _, rows in blocks for line in rows), default=0)
    text = []
    for name, rows in blocks:
        format_plan = [f"{steps:<{names}}  {verb:<5}  {why}" for steps, verb, why in rows] or ["nothing to do"]
        text += [_cut(f" {name if i == 0 else '':<{wide}}  {line}") for i, line in enumerate(format_plan)]
    return "\n".join(text)


def _lines(steps: Iterable[Planned], only_runs: bool) -> list[tuple[str, str, str]]:
    """(steps, run or reuse, why), in the order of the first of the steps."""
    grouped: dict[tuple[str, str], list[str]] = {}
    for planned in steps:
        if planned.record is None or not only_runs:
            verb = "run" if planned.record is None else "reuse"
            grouped.setdefault((verb, reason(planned)), []).append(planned.step.id.rpartition(".")[2])
    return [(", ".join(names), verb, why) for (verb, why), names in grouped.items()]


def reason(planned: Planned, most: int = 2) -> str:
    """The first reasons, and how many more `task=explain` would show."""
    more = len(planned.why) - most
    text = "; ".join(w if len(w) <= 90 else f"{w[:89]}…" for w in planned.why[:most])
    return text + (f" (+{more} more)" if more > 0 else "")


def _cut(line: str) -> str:
    """To the width of a terminal; in full anywhere else."""
    line = escaped(line)
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else len(line)
    return line if len(line) <= width else line[: width - 1] + "…"
