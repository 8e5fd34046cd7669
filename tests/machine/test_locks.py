"""Who holds a lock is told; who is stopped or gone holds nobody up for ever; no one else can lock a user out."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from autovoice.errors import StoreError
from autovoice.machine import lock_entries, locks
from autovoice.machine.lock_entries import Slip
from autovoice.machine.locks import Lock, Notices, lock_folder
from autovoice.spec import WORKER

HOLDER = """
import os, subprocess, sys
from autovoice.machine import locks
from autovoice.machine.locks import Lock
locks.PATIENCE = float(os.environ.get("PATIENCE", locks.PATIENCE))
lock = Lock("toy", "the toy")
lock.take(alone=sys.argv[1] == "alone")
print("held", flush=True)
if sys.argv[2:]:
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], pass_fds=[lock._fd], stdout=2)
    print("child", flush=True)
sys.stdin.read()
print(lock.disturbed(), flush=True)
"""


@pytest.fixture(autouse=True)
def _quick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.delenv(WORKER, raising=False)
    monkeypatch.setattr(locks, "TELL_AFTER", 0.2)
    monkeypatch.setattr(locks, "GRACE", 0.4)


@contextmanager
def holder(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", HOLDER, *arguments]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()


def taken(alone: bool = False) -> tuple[Lock, threading.Event]:
    """A lock that is being taken, in a thread, and when it is had."""
    lock, had = Lock("toy", "the toy"), threading.Event()

    def take() -> None:
        lock.take(alone)
        had.set()

    threading.Thread(target=take, daemon=True).start()
    return lock, had


def until(found: Callable[[], object], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not found():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.02)


def test_a_waiter_is_told_once_who_holds_it_and_since_when(capfd: pytest.CaptureFixture[str]) -> None:
    with holder("alone") as process:
        lock, had = taken()
        assert not had.wait(1.0)
        said = capfd.readouterr().err
        who = f"(pid {process.pid}), since "
        assert re.fullmatch(rf"waiting for the toy: -c import .*… {re.escape(who)}\d\d:\d\d:\d\d\n", said)
        process.kill()
        assert had.wait(30)
    lock.give()
    assert list(lock_folder().glob("*.slip")) == []


def test_what_a_worker_waits_for_is_told_by_its_driver_once_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    folder, path = lock_folder(), lock_folder() / "toy.1.0.slip"
    mine = Slip("the toy", False, pid=os.getppid(), born=lock_entries._state(os.getppid())[1], driver=os.getpid())
    lock_entries.say(path, mine, "waiting for the toy: x")
    lock_entries.say(
        folder / "toy.1.1.slip", Slip("the toy", False, pid=mine.pid, born=mine.born, driver=1), "another's"
    )
    notices = Notices()
    assert notices.new() == ["waiting for the toy: x"]
    assert notices.new() == []  # not even looked at
    notices._next = 0
    assert notices.new() == []
    monkeypatch.setattr(locks, "TELL_AGAIN", 0)
    notices._next = 0
    lock_entries.touch(path)
    assert notices.new() == ["waiting for the toy: x"]


def test_a_worker_itself_prints_nothing(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv(WORKER, "1")
    with holder("alone"):
        _, had = taken()
        until(lambda: any(s.said for _, s in lock_entries.slips(lock_folder())))
        assert not had.is_set()
    assert had.wait(30)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(("theirs", "mine"), [("alone", False), ("shared", True)])
def test_a_stopped_holder_holds_nobody_up_and_sees_that_when_it_goes_on(
    theirs: str, mine: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    with holder(theirs) as process:
        process.send_signal(signal.SIGSTOP)
        until(lambda: psutil.Process(process.pid).status() == psutil.STATUS_STOPPED)
        lock, had = taken(mine)
        assert had.wait(30)
        said = capfd.readouterr().err.splitlines()
        assert f"(pid {process.pid}, stopped)" in said[0]
        assert said[1].startswith("going on beside ")
        assert not lock.disturbed()
        process.send_signal(signal.SIGCONT)
        until(lock.disturbed)
        out, _ = process.communicate("")
        assert out == "True\n"
        assert not lock.disturbed()
        lock.give()


def test_one_that_is_awake_again_is_waited_for() -> None:
    with holder("alone") as process:
        process.send_signal(signal.SIGSTOP)
        first, had = taken()
        assert had.wait(30)
        process.send_signal(signal.SIGCONT)
        until(first.disturbed)
        _, again = taken()
        assert not again.wait(0.5)
        process.kill()
        assert again.wait(30)


def test_a_child_of_a_holder_that_is_gone_holds_nobody_up() -> None:
    with holder("alone", "child") as process:
        assert process.stdout
        assert process.stdout.readline() == "child\n"
        (child,) = psutil.Process(process.pid).children()
        try:
            process.kill()
            _, had = taken()
            assert not had.wait(0.2)  # the child has the descriptor still
            assert had.wait(30)
        finally:
            child.kill()


def test_nobody_overtakes_one_who_has_long_waited_to_have_it_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "PATIENCE", 0.3)
    monkeypatch.setenv("PATIENCE", "0.3")
    first = Lock("toy", "the toy")
    first.take(alone=False)
    measuring, quiet = taken(alone=True)
    second, early = taken()  # at first, others go on
    assert early.wait(30)
    second.give()
    time.sleep(0.4)
    with holder_of_others() as late:
        until(lambda: any(s.pid != os.getpid() for _, s in lock_entries.slips(lock_folder())))
        assert not late.wait(0.2)
        first.give()
        assert quiet.wait(30)
        assert not late.wait(0.2)
        measuring.give()
        assert late.wait(30)


@contextmanager
def holder_of_others() -> Iterator[threading.Event]:
    """Another process that wants it shared."""
    had = threading.Event()

    def wait() -> None:
        with holder("shared"):
            had.set()

    threading.Thread(target=wait, daemon=True).start()
    yield had


def test_those_who_wait_get_it_between_two_slices() -> None:
    lock = Lock("toy", "the toy")
    lock.take(alone=True)
    assert not lock.let_others()
    waiting, had = taken()
    until(lambda: any(not s.held for _, s in lock_entries.slips(lock_folder())))
    again = threading.Thread(target=lock.let_others, daemon=True)
    again.start()
    assert had.wait(30)
    assert again.is_alive()
    waiting.give()
    again.join(30)
    assert not again.is_alive()
    lock.give()


# -- the folder ------------------------------------------------------------------------------------


def test_the_folder_is_nobody_elses(tmp_path: Path) -> None:
    assert lock_folder() == tmp_path / "autovoice"
    assert lock_folder().stat().st_mode & 0o777 == 0o700
    lock_folder().chmod(0o777)
    assert lock_folder().stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("what", ["link", "file"])
def test_what_stands_in_its_place_is_passed_over(what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    if what == "file":
        (tmp_path / "autovoice").touch()
    else:
        (tmp_path / "autovoice").symlink_to(tmp_path)
    assert lock_folder() == tmp_path / "tmp" / f"autovoice-{os.getuid()}"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make another user's folder")
def test_another_users_folder_is_passed_over_and_without_any_it_is_one_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = 12345
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    os.chown(tmp_path, other, -1)  # a session folder of another user: not even looked into
    squatted = tmp_path / f"autovoice-{os.getuid()}"
    squatted.mkdir()
    os.chown(squatted, other, -1)
    assert lock_folder() == tmp_path / ".autovoice-locks"
    os.chown(tmp_path / ".autovoice-locks", other, -1)
    with pytest.raises(StoreError) as raised:
        lock_folder()
    assert raised.value.fact == "no folder for locks that is this user's alone"
    assert f"{squatted}: is not a folder of this user" in raised.value.fix
    os.chown(tmp_path, os.getuid(), -1)
