"""Processor identity, and locks that give a step the machine or the GPU alone."""

from __future__ import annotations

import os
import platform
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from autovoice.machine.locks import Lock


@cache
def machine() -> str:
    """`<processor>, <n> cores`: times measured on another machine are not this one's."""
    return f"{_processor()}, {len(os.sched_getaffinity(0))} cores"


def _processor() -> str:
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    return found[1].strip() if found else platform.machine()


@contextmanager
def machine_shared() -> Iterator[None]:
    """Hold this machine with all other steps of this user, whatever process runs them: nobody measures meanwhile."""
    lock = Lock("machine", "the machine")
    lock.take(alone=False)
    before, _LOCKS.lock = _lock_of_thread(), lock
    try:
        yield
    finally:
        _LOCKS.lock = before
        lock.give()


@contextmanager
def machine_alone() -> Iterator[Lock]:
    """Hold this machine with none, to measure, in place of what the caller holds; keep it no longer than a second.

    `let_others` of what is given lets those in who wait, `disturbed` tells that one got in nevertheless.
    """
    shared, lock = _lock_of_thread(), Lock("machine", "the machine")
    if shared is not None:
        shared.give()
    lock.take(alone=True)
    try:
        yield lock
    finally:
        lock.give()
    if shared is not None:
        shared.take(alone=False)


@contextmanager
def gpu_shared(alone: bool) -> Iterator[None]:
    """Hold the first GPU, with other steps of this user that run engines there, or `alone`, to time kernels there.

    Without a GPU there is nothing to hold.
    """
    from autovoice.machine.gpus import gpus  # every command imports this module, and few of them ask

    found = gpus()
    if not found:
        yield
        return
    lock = Lock(f"gpu-{found[0].uuid}", "the GPU")
    if not lock.try_take(alone):
        _wait_without_machine(lock, alone)
    try:
        yield
    finally:
        lock.give()


def _wait_without_machine(lock: Lock, alone: bool) -> None:
    """Who has the GPU may wait to have the machine alone: whoever waits for the one holds the other back from none."""
    machine = _lock_of_thread()
    if machine is not None:
        machine.give()
    lock.take(alone)
    if machine is not None:
        try:
            machine.take(alone=False)
        except BaseException:
            lock.give()
            raise


#: of each thread the machine's lock, where it has that
_LOCKS = threading.local()


def _lock_of_thread() -> Lock | None:
    return getattr(_LOCKS, "lock", None)
