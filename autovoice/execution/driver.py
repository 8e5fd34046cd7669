"""Runs a plan on an executor. Knows steps, keys and needs; no component, no backend, no kind of step."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from dataclasses import dataclass, field, replace
from typing import Protocol

from autovoice.errors import AutovoiceError, StepError, WorkerError
from autovoice.execution.job import Job, run_job
from autovoice.execution.worker_death import with_log
from autovoice.plan.planner import Plan, Planned
from autovoice.plan.retries import Retry
from autovoice.store.artefacts import Record, Store

#: what a step that never ran is taken to last
_UNKNOWN_SECONDS = 1.0


class Listener(Protocol):
    """Who is told what happens. `tick` comes a few times a second while steps run, `close` at the end.

    `note` is something that a user should know meanwhile.
    """

    def started(self, planned: Planned) -> None: ...
    def finished(self, planned: Planned, record: Record) -> None: ...
    def failed(self, planned: Planned, error: AutovoiceError) -> None: ...
    def skipped(self, planned: Planned, need: str) -> None: ...
    def note(self, text: str) -> None: ...
    def tick(self) -> None: ...
    def close(self) -> None: ...


@dataclass
class Outcome:
    """What became of each step."""

    records: dict[str, Record] = field(default_factory=dict)
    ran: dict[str, Record] = field(default_factory=dict)
    errors: dict[str, AutovoiceError] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Started:
    """A step handed to the executor; `tried` are its crashes before, the first one first."""

    planned: Planned
    job: Job
    tried: tuple[WorkerError, ...] = ()


def run_plan(
    plan: Plan,
    store: Store,
    executor: Executor,
    listener: Listener,
    keep_going: bool = False,
    slots: int | None = None,
    run: Callable[[Job], Record] = run_job,
) -> Outcome:
    """Run what the plan says must run, in the order of needs. Errors are collected in the outcome.

    At most `slots` steps are handed to the executor at a time (None: all that are ready), so that what waits is
    chosen here, longest remaining path first, and not by the executor's queue.
    """
    outcome = Outcome({p.step.id: p.record for p in plan.steps if p.record is not None})
    waiting = {p.step.id: p for p in plan.to_run}
    running: dict[Future[Record], _Started] = {}
    ranks = _remaining(plan.to_run)
    while True:
        if keep_going or not outcome.errors:
            busy = [one.planned for one in running.values()]
            for planned in _next(_ready(waiting, outcome, ranks), busy, slots):
                del waiting[planned.step.id]
                started = _Started(planned, _job(planned, store))
                running[executor.submit(run, started.job)] = started
                listener.started(planned)
        if not running:
            break
        done, _ = wait(running, timeout=0.2, return_when=FIRST_COMPLETED)
        listener.tick()
        for future in [f for f in running if f in done]:  # in the order they were started
            again = _settle(running.pop(future), future, outcome, listener)
            if again is not None:
                running[executor.submit(run, again.job)] = again
    for planned in waiting.values():
        need = next((n for n in planned.step.needs.values() if n not in outcome.records), "")
        outcome.skipped[planned.step.id] = need
        listener.skipped(planned, need)
    return outcome


def _ready(waiting: Mapping[str, Planned], outcome: Outcome, ranks: Mapping[str, float]) -> list[Planned]:
    ready = [p for p in waiting.values() if all(n in outcome.records for n in p.step.needs.values())]
    return sorted(ready, key=lambda p: -ranks[p.step.id])


def _next(ready: Sequence[Planned], running: Sequence[Planned], slots: int | None) -> Sequence[Planned]:
    """What to start now: as many as there are free slots; what measures time only when nothing else is left to run."""
    if any(p.step.alone for p in running):
        return []
    others = [p for p in ready if not p.step.alone]
    if others or running:
        return others[: None if slots is None else max(0, slots - len(running))]
    return ready[:1]


def _remaining(planned: Sequence[Planned]) -> dict[str, float]:
    """Seconds from each step's start to the end of the longest chain behind it, by what they took last time."""
    ranks: dict[str, float] = {}
    behind: dict[str, float] = {}
    for p in reversed(planned):  # every step comes after the steps it needs
        ranks[p.step.id] = (p.last_seconds or _UNKNOWN_SECONDS) + behind.get(p.step.id, 0.0)
        for need in p.step.needs.values():
            behind[need] = max(behind.get(need, 0.0), ranks[p.step.id])
    return ranks


def _settle(one: _Started, future: Future[Record], outcome: Outcome, listener: Listener) -> _Started | None:
    """Enter what became of a step; or, where it crashed and there is a way round to try, the step once more."""
    step = one.planned.step
    try:
        record = future.result()
    except Exception as e:  # whatever an executor or a step raises is the failure of this step, and of no other
        error = e if isinstance(e, AutovoiceError) else StepError(f"{step.id}: {type(e).__name__}: {e}")
        if isinstance(error, WorkerError):
            Store(one.job.store).sweep_abandoned(one.job.key)  # it could not do so itself
            error = with_log(error, one.job.log)
            again = _again(one, error)
            if again is not None:
                return again
        error = one.tried[0] if one.tried else error  # the ways round failed too: what they were to go round counts
        outcome.errors[step.id] = error
        listener.failed(one.planned, error)
        return None
    outcome.records[step.id] = outcome.ran[step.id] = record
    listener.finished(one.planned, record)
    return None


def _again(one: _Started, error: WorkerError) -> _Started | None:
    """The same step with other fields, after a crash that it has a way round for; None where there is nothing left."""
    ways = one.planned.step.after_crash[len(one.tried) :]
    if not error.crash or not ways:
        return None
    number = len(one.tried) + 2
    log = one.job.log.with_name(f"{one.job.log.stem}-{number}{one.job.log.suffix}")
    return _Started(one.planned, replace(one.job, log=log, retry=Retry(error.crash, ways[0])), (*one.tried, error))


def _job(planned: Planned, store: Store) -> Job:
    step = planned.step
    stamp = time.strftime("%Y%m%d-%H%M%S")
    log = store.root / "logs" / f"{step.id}-{planned.key[:8]}-{stamp}.log"
    files = {name: path.absolute() for name, path in step.files.items()}
    return Job(step.id, step.kind, planned.key, store.root, planned.inputs, files, log)
