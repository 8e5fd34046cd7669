"""Why a worker process died: the signal of a crash, the kernel's want of memory, or someone's hand."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from pathlib import Path

from autovoice.errors import WorkerError

#: what native code that crashes ends by
_CRASHES = ("SIGSEGV", "SIGABRT", "SIGBUS", "SIGILL", "SIGFPE", "SIGTRAP", "SIGSYS")
#: the exit code that multiprocessing gives a process whose fork server is gone, and with it the real one
LOST = 255
_WHO = "its worker process"
_CGROUPS = Path("/sys/fs/cgroup")
_VMSTAT = Path("/proc/vmstat")


def oom_kills() -> int | None:
    """How many processes the kernel has killed for want of memory, in this cgroup where it counts; None: unknown."""
    for path in _counters():
        try:
            found = re.search(r"^oom_kill (\d+)$", path.read_text(), re.MULTILINE)
        except OSError:  # not counted there
            continue
        if found:
            return int(found[1])
    return None


def _counters() -> Iterator[Path]:
    """Where the kernel may count, the nearest first."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        lines = []
    of = {controllers: path.lstrip("/") for _, controllers, path in (line.split(":", 2) for line in lines)}
    for controllers, path in of.items():
        if "memory" in controllers.split(","):
            yield from (_CGROUPS / "memory" / p / "memory.oom_control" for p in (path, ""))
    if "" in of:
        yield from (_CGROUPS / p / "memory.events" for p in (of[""], ""))
    yield _VMSTAT


def death(code: int | None, kills_before: int | None) -> WorkerError:
    """The error of a step whose process ended with `code`, negative for a signal, as multiprocessing tells it."""
    if code in (None, LOST):
        return WorkerError(f"{_WHO} was lost: what starts workers was killed, more than once", "run it again")
    if code >= 0:
        return WorkerError(f"{_WHO} ended with exit code {code}")
    name = _signal(-code)
    if name in _CRASHES:
        return WorkerError(f"{_WHO} crashed ({name})", crash=name)
    if name != "SIGKILL":
        return WorkerError(f"{_WHO} was ended by {name}")
    kills = oom_kills()
    if kills is None or kills_before is None:
        fix = "run it again; or out of memory? (this system does not tell) workers=1, or smaller dims.*.max"
        return WorkerError(f"{_WHO} was killed (SIGKILL)", fix)
    if kills > kills_before:
        fact = f"{_WHO} was killed by the kernel, out of memory (SIGKILL)"
        return WorkerError(fact, "workers=1, or smaller dims.*.max")
    return WorkerError(f"{_WHO} was killed (SIGKILL), and not by the kernel for want of memory", "run it again")


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # one of the real-time signals
        return f"signal {number}"


def with_log(error: WorkerError, log: Path) -> WorkerError:
    """The same, with the package whose native code crashed, as far as the log tells, and the log's place."""
    fact, package = error.fact, _package(log) if error.crash else None
    if package is not None:
        fact = fact.replace(_WHO, package)
    return WorkerError(fact, "; ".join(f for f in (error.fix, f"log: {log}") if f), error.crash)


def _package(log: Path) -> str | None:
    """The installed package nearest to the top of the Python stack that a crash left in the log."""
    try:
        text = log.read_text(errors="replace")
    except OSError:  # it crashed before its step began
        return None
    stack = text.rpartition("Fatal Python error: ")[2].rpartition("Current thread ")[2].partition("\n\n")[0]
    found = re.search(r"/(?:site|dist)-packages/(\w+)", stack)
    return found[1] if found else None
