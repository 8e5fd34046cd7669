"""Rounds of a measurement on a machine that does nothing else, which others get between two slices of it."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from autovoice.errors import StepError
from autovoice.machine.sharing import machine_alone

T = TypeVar("T")
#: seconds that the machine is held at a time, but for the round that begins within them
SLICE = 1.0
#: slices that may count for nothing
MOST_DISTURBED = 10


def quiet_rounds(turn: Callable[[], T], enough: Callable[[int, float], bool], warm_up: Callable[[], Any]) -> list[T]:
    """What each round gave, until `enough`(rounds, seconds they took); `warm_up` comes first, and after each pause.

    A slice in which this process was stopped, or another worked beside it, counts for nothing. Raises StepError where
    that happens again and again.
    """
    kept: list[T] = []
    spent, disturbed = 0.0, 0
    with machine_alone() as machine, _stops() as stops:
        warm_up()
        while True:
            before = len(stops)
            found, seconds = _slice(turn, enough, len(kept), spent)
            if len(stops) > before or machine.disturbed():
                disturbed += 1
                if disturbed > MOST_DISTURBED:
                    raise StepError("timing was disturbed again and again", "run it again when the machine is quiet")
                machine.renew()
                warm_up()
                continue
            kept, spent = [*kept, *found], spent + seconds
            if enough(len(kept), spent):
                return kept
            if machine.let_others():
                warm_up()


def _slice(
    turn: Callable[[], T], enough: Callable[[int, float], bool], rounds: int, spent: float
) -> tuple[list[T], float]:
    """Rounds of one slice and the seconds they took, after so many `rounds` that took `spent`."""
    found: list[T] = []
    begin = time.perf_counter()
    while True:
        found.append(turn())
        seconds = time.perf_counter() - begin
        if seconds >= SLICE or enough(rounds + len(found), spent + seconds):
            return found, seconds


@contextmanager
def _stops() -> Iterator[list[int]]:
    """Grows by one whenever this process goes on after it was stopped, as by Ctrl-Z; in its main thread alone."""
    stops: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield stops
        return
    before = signal.signal(signal.SIGCONT, lambda number, _: stops.append(number))
    try:
        yield stops
    finally:
        signal.signal(signal.SIGCONT, signal.SIG_DFL if before is None else before)
