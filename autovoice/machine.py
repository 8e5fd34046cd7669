"""What a measured time belongs to, and having it for oneself while one measures."""

from __future__ import annotations

import fcntl
import os
import platform
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import cache
from pathlib import Path


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
def machine_shared(alone: bool) -> Iterator[None]:
    """Hold this machine, with all other steps of this user, whatever process runs them, or `alone` with none."""
    with _held("", alone):
        yield


@contextmanager
def gpu_shared(alone: bool) -> Iterator[None]:
    """Hold the first GPU, with other steps of this user that run engines there, or `alone`, to time kernels there.

    Without a GPU there is nothing to hold.
    """
    from autovoice.cuda.device import gpus  # every command imports this module, and few of them ask

    found = gpus()
    with _held(f"-{found[0].uuid}", alone) if found else nullcontext():
        yield


@contextmanager
def _held(what: str, alone: bool) -> Iterator[None]:
    path = os.path.join(tempfile.gettempdir(), f"autovoice-{os.getuid()}{what}.lock")
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        yield
    finally:
        fcntl.flock(fd, fcntl.LOCK_UN)  # closing is not enough where a child has the descriptor too
        os.close(fd)
