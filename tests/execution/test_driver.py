from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from autovoice.errors import AutovoiceError, StepError, WorkerError
from autovoice.execution.driver import Outcome, run_plan
from autovoice.execution.job import Job
from autovoice.plan.planner import Plan, Planned
from autovoice.plan.retries import Retry
from autovoice.plan.rules import Step
from autovoice.store.artefacts import Record, Store
from tests.builders import component, graph_of


def record(key: str) -> Record:
    return Record(key, {}, {}, {}, 0.1)


def planned(
    name: str, needs: Iterable[str] = (), seconds: float | None = None, done: bool = False, alone: bool = False
) -> Planned:
    step = Step(name, name, "toy", {}, {f"role:{n}": n for n in needs}, {"weights": Path("dir/w.pth")}, alone=alone)
    return Planned(step, f"key-of-{name}", {"fields": name}, record(f"key-of-{name}") if done else None, (), seconds)


def plan_of(*steps: Planned) -> Plan:
    return Plan(graph_of(component("a")), steps)


@dataclass
class Inline(Executor):
    """Runs each task where it is submitted; remembers the jobs."""

    jobs: list[Job] = field(default_factory=list)

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        self.jobs.append(args[0])
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args))
        except Exception as e:
            future.set_exception(e)
        return future


@dataclass
class Held(Executor):
    """Runs nothing until `finish` says which; remembers what is running."""

    running: dict[str, tuple[Future[Any], Callable[..., Any], Job]] = field(default_factory=dict)
    most: int = 0

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self.running[args[0].id] = (future, fn, args[0])
        self.most = max(self.most, len(self.running))
        return future

    def finish(self, name: str) -> None:
        future, fn, job = self.running.pop(name)
        try:
            future.set_result(fn(job))
        except Exception as e:
            future.set_exception(e)


@dataclass
class Told:
    """A listener that writes down what it is told, and at every tick lets one held step finish."""

    said: list[str] = field(default_factory=list)
    executor: Held | None = None
    order: list[str] = field(default_factory=list)

    def started(self, planned: Planned) -> None:
        self.said.append(f"start {planned.step.id}")

    def finished(self, planned: Planned, record: Record) -> None:
        self.said.append(f"finish {planned.step.id}")

    def failed(self, planned: Planned, error: AutovoiceError) -> None:
        self.said.append(f"fail {planned.step.id}")

    def skipped(self, planned: Planned, need: str) -> None:
        self.said.append(f"skip {planned.step.id} for {need or 'nothing'}")

    def note(self, text: str) -> None:
        self.said.append(f"note {text}")

    def tick(self) -> None:
        if self.executor and self.executor.running:
            ready = [n for n in self.order if n in self.executor.running]
            self.executor.finish(ready[0] if ready else next(iter(self.executor.running)))

    def close(self) -> None:
        raise AssertionError("whoever opened the listener closes it")


class Run:
    """The work of a step: the record of its key, or the failure planned for it."""

    def __init__(self, **failures: Exception) -> None:
        self.failures = failures
        self.ran: list[str] = []

    def __call__(self, job: Job) -> Record:
        self.ran.append(job.id)
        if job.id in self.failures:
            raise self.failures[job.id]
        return record(job.key)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def run(plan: Plan, store: Store, work: Run, **more: Any) -> tuple[Outcome, list[str]]:
    told = Told()
    return run_plan(plan, store, Inline(), told, run=work, **more), told.said


def test_no_work(store: Store) -> None:
    plan = plan_of(planned("a", done=True), planned("b", ["a"], done=True))
    executor, work = Inline(), Run()
    outcome = run_plan(plan, store, executor, Told(), run=work)
    assert executor.jobs == []
    assert outcome == Outcome({"a": record("key-of-a"), "b": record("key-of-b")})


def test_one_step(store: Store) -> None:
    executor = Inline()
    outcome = run_plan(plan_of(planned("a")), store, executor, Told(), run=Run())
    (job,) = executor.jobs
    assert (job.id, job.kind, job.key, job.store, job.inputs) == ("a", "toy", "key-of-a", store.root, {"fields": "a"})
    assert job.files == {"weights": Path.cwd() / "dir/w.pth"}
    assert job.log.parent == store.root / "logs"
    assert job.log.name.startswith("a-key-of-a-")
    assert outcome == Outcome({"a": record("key-of-a")}, {"a": record("key-of-a")})


def test_only_what_has_no_record_runs(store: Store) -> None:
    work = Run()
    outcome, said = run(plan_of(planned("a", done=True), planned("b", ["a"])), store, work)
    assert work.ran == ["b"]
    assert (list(outcome.records), list(outcome.ran)) == (["a", "b"], ["b"])
    assert said == ["start b", "finish b"]


def test_a_step_waits_for_all_that_it_needs(store: Store) -> None:
    plan = plan_of(planned("d", ["b", "c"]), planned("c", ["a"]), planned("b", ["a"]), planned("a"))
    held = Held()
    told = Told(executor=held, order=["c", "b"])
    run_plan(plan, store, held, told, run=Run())
    assert told.said == [
        "start a",
        "finish a",
        "start c",
        "start b",
        "finish c",
        "finish b",
        "start d",
        "finish d",
    ]


def test_a_chain_of_1000(store: Store) -> None:
    work = Run()
    steps = [planned(f"s{i}", [f"s{i - 1}"] if i else []) for i in range(1000)]
    outcome, _ = run(plan_of(*steps), store, work)
    assert work.ran == [f"s{i}" for i in range(1000)]
    assert len(outcome.records) == 1000


FORK = [planned("a"), planned("b", ["a"]), planned("c", ["b"]), planned("x"), planned("y", ["x"])]


def test_with_keep_going_a_failure_skips_its_dependants_alone(store: Store) -> None:
    error = StepError("a: no", "try b")
    outcome, said = run(plan_of(*FORK), store, Run(a=error), keep_going=True)
    assert outcome.errors == {"a": error}
    assert list(outcome.ran) == ["x", "y"]
    assert outcome.skipped == {"b": "a", "c": "b"}
    assert [s for s in said if s.startswith(("fail", "skip"))] == ["fail a", "skip b for a", "skip c for b"]


def test_without_keep_going_nothing_starts_after_a_failure(store: Store) -> None:
    work = Run(a=StepError("a: no"))
    outcome, _ = run(plan_of(*FORK), store, work)
    assert sorted(work.ran) == ["a", "x"]  # both had started
    assert list(outcome.ran) == ["x"]
    assert outcome.skipped == {"b": "a", "c": "b", "y": ""}


def test_what_runs_while_another_fails_is_waited_for_and_kept(store: Store) -> None:
    held = Held()
    told = Told(executor=held, order=["a", "x"])
    outcome = run_plan(plan_of(*FORK), store, held, told, run=Run(a=StepError("a: no")))
    assert told.said[:4] == ["start a", "start x", "fail a", "finish x"]
    assert list(outcome.records) == ["x"]


def test_a_failure_is_never_a_record(store: Store) -> None:
    outcome, _ = run(plan_of(*FORK), store, Run(a=StepError("a: no"), x=StepError("x: no")), keep_going=True)
    assert (outcome.records, outcome.ran) == ({}, {})
    assert list(outcome.errors) == ["a", "x"]  # in the order they were started


def test_an_error_that_is_no_users_fails_its_step_and_no_other(store: Store) -> None:
    outcome, _ = run(plan_of(planned("a"), planned("b")), store, Run(a=ZeroDivisionError("a bug")), keep_going=True)
    assert str(outcome.errors["a"]) == "a: ZeroDivisionError: a bug"
    assert set(outcome.ran) == {"b"}


def test_the_longest_way_to_the_end_goes_first(store: Store) -> None:
    work = Run()
    steps = [
        planned("short", seconds=1),
        planned("long", seconds=5),
        planned("first", seconds=2),
        planned("last", ["first"], seconds=9),
    ]
    run(plan_of(*steps), store, work, slots=1)
    assert work.ran == ["first", "last", "long", "short"]


def test_without_times_the_plans_order_decides(store: Store) -> None:
    work = Run()
    run(plan_of(planned("b"), planned("a"), planned("c")), store, work, slots=1)
    assert work.ran == ["b", "a", "c"]


@pytest.mark.parametrize(("slots", "most"), [(1, 1), (2, 2), (None, 5)])
def test_no_more_steps_at_a_time_than_slots(slots: int | None, most: int, store: Store) -> None:
    held = Held()
    outcome = run_plan(
        plan_of(*(planned(f"s{i}") for i in range(5))), store, held, Told(executor=held), run=Run(), slots=slots
    )
    assert (held.most, len(outcome.ran)) == (most, 5)


# -- steps that measure time -------------------------------------------------------------------------


@pytest.mark.parametrize("slots", [1, 3, None])
def test_what_measures_time_runs_when_nothing_else_does(slots: int | None, store: Store) -> None:
    """However soon it is ready and however long it takes: `clock` has the longest way, `after` needs it."""
    steps = [
        planned("clock", seconds=100, alone=True),
        planned("after", ["clock"], seconds=100),
        planned("a", seconds=1),
        planned("b", ["a"], seconds=1),
        planned("c", seconds=5),
        planned("second", seconds=50, alone=True),
    ]
    held = Held()
    told = Told(executor=held)
    outcome = run_plan(plan_of(*steps), store, held, told, run=Run(), slots=slots)
    assert set(outcome.ran) == {"clock", "after", "a", "b", "c", "second"}
    running: set[str] = set()
    for word, name in (s.split() for s in told.said):
        if word == "start":
            assert not running & {"clock", "second"}, f"{name} starts beside a step that measures time"
            assert not running or name not in ("clock", "second"), f"{name} starts beside {running}"
            running.add(name)
        else:
            running.remove(name)


def test_what_measures_time_comes_last_of_what_is_ready(store: Store) -> None:
    work = Run()
    run(plan_of(planned("clock", seconds=100, alone=True), planned("a"), planned("b", ["a"])), store, work)
    assert work.ran == ["a", "b", "clock"]


def test_other_steps_do_not_wait_for_what_measures_time(store: Store) -> None:
    held = Held()
    told = Told(executor=held, order=["x"])
    steps = [planned("clock", alone=True), planned("x"), planned("y"), planned("z", ["x"])]
    run_plan(plan_of(*steps), store, held, told, run=Run())
    assert told.said.index("start z") < told.said.index("start clock")


def test_a_failure_beside_what_measures_time_skips_only_its_own(store: Store) -> None:
    steps = [planned("a"), planned("clock", alone=True), planned("b", ["clock"])]
    outcome, _ = run(plan_of(*steps), store, Run(a=StepError("a: no")), keep_going=True)
    assert (list(outcome.ran), list(outcome.errors)) == (["clock", "b"], ["a"])


class Brittle:
    """Work that crashes until it is given fields that it can bear."""

    def __init__(self, bears: object, then: Exception | None = None) -> None:
        self.bears, self.then = bears, then
        self.jobs: list[Job] = []

    def __call__(self, job: Job) -> Record:
        self.jobs.append(job)
        if job.retry is None or job.retry.fields != self.bears:
            raise WorkerError("its worker process crashed (SIGSEGV)", crash="SIGSEGV")
        if self.then:
            raise self.then
        return record(job.key)


def crashing(*ways: Mapping[str, Any]) -> Plan:
    one = planned("a")
    return plan_of(replace(one, step=replace(one.step, after_crash=ways)), planned("b", ["a"]))


def test_a_step_that_crashed_is_run_again_with_what_it_says_to_try_then(store: Store) -> None:
    work = Brittle({"n": 2})
    plan = crashing({"n": 1}, {"n": 2}, {"n": 3})
    plan = Plan(plan.graph, plan.steps[:1])
    outcome, said = run(plan, store, work)
    assert said == ["start a", "finish a"]
    assert outcome.errors == {}
    assert [job.retry for job in work.jobs] == [None, Retry("SIGSEGV", {"n": 1}), Retry("SIGSEGV", {"n": 2})]
    assert {job.key for job in work.jobs} == {"key-of-a"}
    assert len({job.log for job in work.jobs}) == 3  # the logs of the crashes are kept


@pytest.mark.parametrize(
    ("ways", "work", "tries"),
    [
        pytest.param([], Brittle(None), 1, id="nothing_to_try"),
        pytest.param([{"n": 1}], Brittle(None), 2, id="crashes_again"),
        pytest.param([{"n": 1}], Brittle({"n": 1}, StepError("no")), 2, id="fails_then"),
    ],
)
def test_where_no_way_round_helps_the_first_crash_is_told(
    ways: list[Mapping[str, Any]], work: Brittle, tries: int, store: Store
) -> None:
    outcome, said = run(crashing(*ways), store, work)
    assert len(work.jobs) == tries
    assert str(outcome.errors["a"]) == f"its worker process crashed (SIGSEGV)\n  log: {work.jobs[0].log}"
    assert said == ["start a", "fail a", "skip b for a"]


def test_what_was_killed_is_not_tried_in_another_way(store: Store) -> None:
    work = Run(a=WorkerError("its worker process was killed (SIGKILL)", "run it again"))
    outcome, _ = run(crashing({"n": 1}), store, work)
    assert work.ran == ["a"]
    assert outcome.errors["a"].fix.startswith("run it again; log: ")
