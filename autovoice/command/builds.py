"""Build what an invocation describes, or run some steps alone: plan, run what must run, publish the folder."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autovoice.command.invocation import Invocation
from autovoice.errors import ArtefactError, ChangedError, SeveralErrors
from autovoice.execution.driver import Listener, Outcome, run_plan
from autovoice.execution.progress import listener
from autovoice.execution.workers import WorkerExecutor
from autovoice.plan import code
from autovoice.plan.code import add_cwd_to_path
from autovoice.plan.planner import Plan, Planned, built_as, make_plan
from autovoice.plan.rules import Step
from autovoice.publish.account import BuildAccount, account_of
from autovoice.publish.folder import publish
from autovoice.store import hashing
from autovoice.store.artefacts import Record
from autovoice.store.json_files import read_json
from autovoice.terminal.escape import say

#: how often a build that finds something changed under it starts over before it gives up
_PLANS_AGAIN = 2


class BuildFailed(SeveralErrors):
    """Some steps failed; each error has been turned into two lines already, in the plan's order."""


@dataclass(frozen=True)
class Built:
    """A finished build: its account, the folder, and what of that had to be written."""

    account: BuildAccount
    folder: Path
    written: Sequence[str]


def build(invocation: Invocation, executor: Executor | None = None) -> Built:
    """Run and publish, with the store in use. Raises BuildFailed with every failed step, and publishes nothing."""
    plan, outcome = _finished(invocation.plan, invocation, executor)
    account = account_of(plan, outcome.records, outcome.ran)
    written = publish(account, invocation.store, invocation.folder, invocation.identity)
    return Built(account, invocation.folder, written)


def run_steps(invocation: Invocation, steps: Sequence[Step], executor: Executor | None = None) -> Mapping[str, Record]:
    """Run what is missing of these steps, each after those it needs, with the store in use; nothing is published.

    Their records, by step. Raises BuildFailed with every failed step, ConfigError for files that do not exist.
    """
    add_cwd_to_path()
    plan = make_plan(invocation.graph, invocation.store, steps)
    return _finished(plan, invocation, executor, steps)[1].records


def _finished(
    plan: Plan, invocation: Invocation, executor: Executor | None, steps: Sequence[Step] | None = None
) -> tuple[Plan, Outcome]:
    """A plan all of whose steps have a record now, and what became of them; remembered for the next plan's reasons."""
    outcome = _outcome(plan, invocation, executor)
    for _ in range(_PLANS_AGAIN):
        changed = [e.path for e in outcome.errors.values() if isinstance(e, ChangedError)]
        if not changed:
            break
        say(f" {', '.join(dict.fromkeys(changed))}: not what was planned with; planned again")
        hashing.forget(map(Path, changed))
        code.forget()
        plan, ran = make_plan(plan.graph, invocation.store, steps), outcome.ran
        outcome = _outcome(plan, invocation, executor)
        outcome.ran = {s: r for s, r in ran.items() if outcome.records.get(s) == r} | outcome.ran
    names = {p.step.id: built_as(plan.graph, p.step) for p in plan.steps}
    made = {s: {"key": r.key, "inputs": r.inputs, "seconds": r.seconds} for s, r in outcome.records.items()}
    invocation.store.memory.save_last(plan.graph.spec.pipeline.name, made, names)
    if outcome.errors:
        raise _failure(plan, outcome)
    return plan, outcome


def _outcome(plan: Plan, invocation: Invocation, executor: Executor | None) -> Outcome:
    return _run(plan, invocation, executor) if plan.to_run else Outcome(_reused(plan))


def _reused(plan: Plan) -> dict[str, Record]:
    return {p.step.id: p.record for p in plan.steps if p.record is not None}


def _run(plan: Plan, invocation: Invocation, executor: Executor | None) -> Outcome:
    settings, store = invocation.settings, invocation.store
    store.prepare()
    own, slots = None, None
    shown: Listener = listener(len(plan.to_run))
    if executor is None:
        slots = min(settings.workers, len(plan.to_run))
        executor = own = WorkerExecutor(slots, _preload(plan.to_run), shown.note)
    try:
        outcome = run_plan(plan, store, executor, shown, settings.keep_going, slots)
    except BaseException:
        if own is not None:
            own.kill()
        for planned in plan.to_run:
            store.sweep_abandoned(planned.key)
        raise
    finally:
        shown.close()
    if own is not None:
        own.shutdown()
    return outcome


def _preload(planned: Sequence[Planned]) -> list[str]:
    """What the steps to run will import, so that workers start with it: by the tools their keys name."""
    tools = {tool for p in planned for tool in p.step.tools}
    return sorted(tool.replace("-", "_") for tool in tools)


def _failure(plan: Plan, outcome: Outcome) -> BuildFailed:
    lines = []
    parts = {p.name for p in plan.graph.parts}
    for planned in (p for p in plan.steps if p.step.id in outcome.errors):  # a cause before what follows from it
        step = planned.step.id
        error = outcome.errors[step]
        fact = error.fact if error.fact.startswith(step) else f"{step}: {error.fact}"
        fix = _named(error.fix, planned.step.component, parts)
        lines.append((fact, fix))
    kept = len(outcome.ran)
    skipped = f", {len(outcome.skipped)} not run" if outcome.skipped else ""
    failed = f"{len(outcome.errors)} of {len(plan.to_run)} steps failed{skipped}"
    return BuildFailed([*lines, (f"{failed}; {kept} finished and are kept", "")])


def result_of(path: Path) -> Any:
    """JSON that a step left in the store. Raises ArtefactError where it is none any more."""
    try:
        return read_json(path)
    except (OSError, ValueError) as e:
        raise ArtefactError(f"{path}: cannot be read: {e}", "run the same command again: it is built again") from e


def _named(fix: str, component: str, parts: Collection[str]) -> str:
    """What a step, which knows no component, calls `component.<name>`; of a fused one any of its members is meant."""
    if component not in parts:
        return fix
    return fix.replace("component.<name>", f"component.{component}").replace("[<name>]", f"[{component}]")
