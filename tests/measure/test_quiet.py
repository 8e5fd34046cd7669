"""Rounds alone on the machine, a slice at a time."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest

from autovoice.errors import StepError
from autovoice.machine.locks import Lock
from autovoice.machine.sharing import machine_shared
from autovoice.measure import quiet
from autovoice.measure.quiet import quiet_rounds


@pytest.fixture(autouse=True)
def _own_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setattr(quiet, "SLICE", 0.05)


def few(rounds: int, spent: float) -> bool:
    return rounds >= 20


def test_a_build_gets_the_machine_within_a_slice_and_the_measurement_goes_on_after_it() -> None:
    got: list[tuple[float, float]] = []
    warm: list[float] = []

    def build() -> None:
        with machine_shared():
            begin = time.monotonic()
            time.sleep(0.3)
            got.append((begin, time.monotonic()))

    other = threading.Thread(target=build)

    def turn() -> float:
        if not other.ident:
            other.start()
        time.sleep(0.03)
        return time.monotonic()

    begin = time.monotonic()
    found = quiet_rounds(turn, few, lambda: warm.append(time.monotonic()))
    other.join()
    ((built, done),) = got
    assert built - begin < 0.5
    assert len(found) == 20
    assert not [t for t in found if built < t < done]
    assert len(warm) == 2  # and once more after the pause
    assert warm[1] >= done


def test_a_slice_in_which_the_process_was_stopped_counts_for_nothing() -> None:
    turns: list[int] = []

    def turn() -> int:
        turns.append(len(turns))
        if len(turns) == 3:
            go_on = ["sh", "-c", f"sleep 0.2; kill -CONT {os.getpid()}"]
            with subprocess.Popen(go_on):
                os.kill(os.getpid(), signal.SIGSTOP)
        time.sleep(0.01)
        return turns[-1]

    found = quiet_rounds(turn, few, lambda: None)
    assert len(found) == 20
    assert 2 not in found
    assert signal.getsignal(signal.SIGCONT) is signal.SIG_DFL


def test_what_is_disturbed_again_and_again_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Lock, "disturbed", lambda lock: True)
    with pytest.raises(StepError, match="timing was disturbed again and again"):
        quiet_rounds(lambda: None, lambda rounds, spent: rounds >= 1, lambda: None)


def test_the_machine_is_shared_again_afterwards() -> None:
    with machine_shared():
        quiet_rounds(lambda: None, few, lambda: None)
        assert not Lock("machine", "the machine").try_take(alone=True)
    alone = Lock("machine", "the machine")
    assert alone.try_take(alone=True)
    alone.give()
