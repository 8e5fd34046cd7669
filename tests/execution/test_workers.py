from __future__ import annotations

import importlib
import os
import re
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from autovoice.errors import ConfigError, ExportError, Fault, StepError, WorkerError
from autovoice.execution.job import WORKER
from autovoice.execution.workers import WorkerExecutor
from tests.builders import write_tree

#: tasks live in a module of their own: a worker imports them by name, from the driver's sys.path
TASKS = """
import os, signal, time
from pathlib import Path
from autovoice.errors import ConfigError, ExportError, Fault

def pid():
    return os.getpid()

def environment(name):
    return os.environ.get(name)

def kill_self():
    os.kill(os.getpid(), signal.SIGKILL)

def crash(number):
    if number == signal.SIGHUP:  # which what is started with nohup ignores
        signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)

def leave(code):
    os._exit(code)

def kill_server_once(path):
    # the fork server dies under the first that comes here, and the next finds that it was there
    if Path(path).exists():
        return "ran again"
    Path(path).touch()
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(600)

def kill_server():
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(600)

def interrupted():
    os.kill(os.getpid(), signal.SIGINT)
    return "went on"

def terminated(whom):
    os.kill(whom or os.getpid(), signal.SIGTERM)
    time.sleep(0.1)
    return "went on"

def parent():
    return os.getppid()

def wait_for(path):
    while not Path(path).exists():
        time.sleep(0.01)
    return os.getpid()

def say_and_sleep(path):
    Path(path).touch()
    time.sleep(600)

def export_error():
    raise ExportError("Net cannot be exported: no", "try this")

def config_error():
    raise ConfigError([Fault("a.b", "is wrong", "mend it"), Fault("c", "is wrong", "mend it")])

def value_error():
    raise ValueError("a bug")
"""


@pytest.fixture
def tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    write_tree(tmp_path, {"worker_tasks.py": TASKS})
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(importlib.sys.modules, "worker_tasks", raising=False)
    return importlib.import_module("worker_tasks")


@pytest.fixture
def executor(tasks: ModuleType) -> Iterator[WorkerExecutor]:
    made = WorkerExecutor(2)
    yield made
    made.kill()


def test_tasks_run_in_a_process_of_their_own_that_stays(executor: WorkerExecutor, tasks: ModuleType) -> None:
    found = {executor.submit(tasks.pid).result() for _ in range(3)}
    assert os.getpid() not in found
    assert len(found) <= 2


def test_a_worker_knows_that_it_is_one(executor: WorkerExecutor, tasks: ModuleType) -> None:
    assert executor.submit(tasks.environment, WORKER).result() == "1"
    assert WORKER not in os.environ


def test_an_interrupt_is_the_drivers_to_handle(executor: WorkerExecutor, tasks: ModuleType) -> None:
    assert executor.submit(tasks.interrupted).result() == "went on"


def test_two_workers_work_at_once(executor: WorkerExecutor, tasks: ModuleType, tmp_path: Path) -> None:
    first = executor.submit(tasks.wait_for, str(tmp_path / "go"))
    other = executor.submit(tasks.pid).result(60)
    assert not first.done()
    (tmp_path / "go").touch()
    assert first.result(60) != other


def test_a_killed_worker_fails_its_own_task_alone(executor: WorkerExecutor, tasks: ModuleType, tmp_path: Path) -> None:
    beside = executor.submit(tasks.wait_for, str(tmp_path / "go"))
    killed = executor.submit(tasks.kill_self)
    later = [executor.submit(tasks.pid) for _ in range(3)]
    with pytest.raises(StepError) as raised:
        killed.result(60)
    assert raised.value.fact == "its worker process was killed (SIGKILL), and not by the kernel for want of memory"
    assert raised.value.fix == "run it again"
    later_pids = {f.result(60) for f in later}  # on the worker that took the dead one's place
    (tmp_path / "go").touch()
    assert beside.result(60) not in later_pids
    assert len(later_pids) == 1


@pytest.mark.parametrize(
    ("ends", "argument", "fact", "crash"),
    [
        pytest.param("crash", signal.SIGSEGV, "its worker process crashed (SIGSEGV)", "SIGSEGV", id="segv"),
        pytest.param("crash", signal.SIGABRT, "its worker process crashed (SIGABRT)", "SIGABRT", id="abort"),
        pytest.param("crash", signal.SIGHUP, "its worker process was ended by SIGHUP", "", id="hangup"),
        pytest.param("leave", 3, "its worker process ended with exit code 3", "", id="exit"),
    ],
)
def test_a_worker_that_dies_is_told_by_how_it_died(
    executor: WorkerExecutor, tasks: ModuleType, ends: str, argument: int, fact: str, crash: str
) -> None:
    with pytest.raises(WorkerError) as raised:
        executor.submit(getattr(tasks, ends), argument).result(60)
    assert (raised.value.fact, raised.value.crash) == (fact, crash)


def test_a_killed_fork_server_is_replaced_once_and_its_steps_run_again(tasks: ModuleType, tmp_path: Path) -> None:
    told: list[str] = []
    executor = WorkerExecutor(1, tell=told.append)
    try:
        assert executor.submit(tasks.kill_server_once, str(tmp_path / "was")).result(60) == "ran again"
        assert told == ["what starts workers was killed; the steps that ran are run again"]
        with pytest.raises(WorkerError) as raised:
            executor.submit(tasks.kill_server).result(60)
        # the second of them is noticed by whoever waits for the task, or by whoever starts the next worker
        assert re.match("its worker process was lost|no worker process could be started", raised.value.fact)
        assert executor.submit(tasks.pid).result(60)
    finally:
        executor.kill()


def test_a_worker_that_died_between_two_tasks_fails_neither(tasks: ModuleType) -> None:
    executor = WorkerExecutor(1)
    try:
        first = executor.submit(tasks.pid).result(60)
        os.kill(first, signal.SIGKILL)
        (pool,) = executor._pools
        while not pool._broken:
            threading.Event().wait(0.01)
        assert executor.submit(tasks.pid).result(60) != first
    finally:
        executor.kill()


def test_sigterm_ends_a_worker_and_not_what_workers_are_forked_from(tasks: ModuleType) -> None:
    executor = WorkerExecutor(1)
    try:
        with pytest.raises(StepError, match=r"^its worker process was ended by SIGTERM$"):
            executor.submit(tasks.terminated, 0).result(60)
        server = executor.submit(tasks.parent).result(60)
        assert executor.submit(tasks.terminated, server).result(60) == "went on"
        assert executor.submit(tasks.parent).result(60) == server
    finally:
        executor.kill()


def test_one_worker_outlives_a_crash_after_the_other(tasks: ModuleType) -> None:
    executor = WorkerExecutor(1)
    try:
        futures = [executor.submit(f) for f in (tasks.kill_self, tasks.pid, tasks.kill_self, tasks.pid)]
        for dead in futures[::2]:
            with pytest.raises(StepError, match="was killed"):
                dead.result(60)
        assert futures[1].result(60) != futures[3].result(60)
    finally:
        executor.kill()


def test_a_users_error_travels_with_fact_and_fix(executor: WorkerExecutor, tasks: ModuleType) -> None:
    with pytest.raises(ExportError) as raised:
        executor.submit(tasks.export_error).result(60)
    assert (raised.value.fact, raised.value.fix) == ("Net cannot be exported: no", "try this")


def test_a_configuration_error_travels_with_every_fault(executor: WorkerExecutor, tasks: ModuleType) -> None:
    with pytest.raises(ConfigError) as raised:
        executor.submit(tasks.config_error).result(60)
    assert raised.value.faults == (Fault("a.b", "is wrong", "mend it"), Fault("c", "is wrong", "mend it"))
    assert str(raised.value) == "a.b, c: is wrong\n  mend it"


def test_another_error_travels_as_it_is_and_the_worker_goes_on(executor: WorkerExecutor, tasks: ModuleType) -> None:
    with pytest.raises(ValueError, match="a bug"):
        executor.submit(tasks.value_error).result(60)
    assert executor.submit(tasks.pid).result(60) != os.getpid()


def test_kill_ends_what_runs_and_cancels_what_waits(tasks: ModuleType, tmp_path: Path) -> None:
    executor = WorkerExecutor(1)
    running = executor.submit(tasks.say_and_sleep, str(tmp_path / "started"))
    waiting = executor.submit(tasks.pid)
    while not (tmp_path / "started").exists():
        threading.Event().wait(0.01)
    executor.kill()
    with pytest.raises(StepError, match="was killed"):
        running.result(60)
    assert waiting.cancelled()
