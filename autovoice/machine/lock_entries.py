"""Slips: small files beside a lock that say which process holds it or waits for it, and since when.

The kernel keeps the lock; slips are for people, and tell whether a holder is stopped or gone.
"""

from __future__ import annotations

import itertools
import json
import multiprocessing
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

#: seconds after which a slip of one that waits counts no more, unless it is touched
_FRESH = 2.0
_COMMAND = 120
_NUMBERS = itertools.count()


@dataclass(frozen=True)
class Slip:
    """`pid` has the lock, where `held`, or waits for it, since then; `driver` is the process of its user's command.

    `born` tells a process from a later one of the same number, `space` is the namespace of both. `said` is what its
    user is to be told.
    """

    what: str
    alone: bool
    held: bool = False
    said: str = ""
    pid: int = field(default_factory=os.getpid)
    born: str = field(default_factory=lambda: _state(os.getpid())[1])
    space: int = field(default_factory=lambda: _space())
    driver: int = field(default_factory=lambda: _driver())
    command: str = field(default_factory=lambda: _command(_driver()))
    since: float = field(default_factory=time.time)

    @property
    def stopped(self) -> bool:
        return self.seen and _state(self.pid)[0] in ("T", "t")

    @property
    def gone(self) -> bool:
        return self.seen and _state(self.pid)[1] != self.born

    @property
    def running(self) -> bool:
        return not self.stopped and not self.gone

    @property
    def seen(self) -> bool:
        """Whether the process can be looked at: not from within another container."""
        return self.space == _space()

    def __str__(self) -> str:
        stopped = ", stopped" if self.stopped else ""
        since = time.strftime("%H:%M:%S", time.localtime(self.since))
        return f"{self.command} (pid {self.driver}{stopped}), since {since}"


def place(folder: Path, lock: str) -> Path:
    """Where a new slip for a lock stands."""
    return folder / f"{lock}.{os.getpid()}.{next(_NUMBERS)}.slip"


def write(path: Path, slip: Slip) -> None:
    path.write_text(json.dumps(asdict(slip)))


def say(path: Path, slip: Slip, text: str) -> Slip:
    """The slip with what its user is to be told."""
    said = replace(slip, said=text)
    write(path, said)
    return said


def touch(path: Path) -> None:
    """Whoever waits is still there."""
    with suppress(FileNotFoundError):  # swept away by hand
        os.utime(path)


def remove(path: Path) -> None:
    path.unlink(missing_ok=True)


def slips(folder: Path, lock: str = "*") -> Iterator[tuple[Path, Slip]]:
    """Every slip for a lock, or for all; those of processes that are gone are removed."""
    for path in folder.glob(f"{lock}.*.slip"):
        try:
            slip = Slip(**json.loads(path.read_bytes()))
            fresh = time.time() - path.stat().st_mtime < _FRESH
        except (OSError, ValueError, TypeError):  # removed or being written just now, or of another version
            continue
        if slip.gone:
            remove(path)
        elif slip.held or fresh:
            yield path, slip


def _state(pid: int) -> tuple[str, str]:
    """The state and the start time of a process, ("", "") of none."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return "", ""
    return ("", "") if fields[0] in "ZX" else (fields[0], fields[19])


def _space() -> int:
    try:
        return os.stat("/proc/self/ns/pid").st_ino
    except OSError:  # not on this system
        return 0


def _driver() -> int:
    parent = multiprocessing.parent_process()
    return os.getpid() if parent is None or parent.pid is None else parent.pid


def _command(pid: int) -> str:
    """`autovoice task=benchmark`, without the interpreter."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_text(errors="replace").split("\0")[:-1]
    except OSError:
        words = []
    if len(words) > 2 and words[1] == "-m":
        words = words[2:]
    elif len(words) > 1 and os.path.basename(words[0]).startswith("python"):
        words = words[1:]
    text = " ".join(" ".join([os.path.basename(w) for w in words[:1]] + words[1:]).split())
    return text if len(text) <= _COMMAND else f"{text[: _COMMAND - 1]}…"
