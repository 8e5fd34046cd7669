"""Locks between the processes of one user, whose waiters are told for whom they wait.

A lock is a file in a folder that no one else can reach. What is locked by processes that are all stopped or gone is
set aside after a while: the next ones lock a new file. A process that wakes up then can see that it is not alone.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from autovoice.errors import StoreError
from autovoice.machine import lock_entries
from autovoice.machine.lock_entries import Slip
from autovoice.spec import WORKER

#: seconds: between two tries, until a waiter is told for whom, until it is told once more
POLL, TELL_AFTER, TELL_AGAIN = 0.05, 2.0, 60.0
#: until a lock is taken from those who are all stopped or gone; until nobody may overtake one who wants it alone
GRACE, PATIENCE = 3.0, 30.0


def lock_folder() -> Path:
    """A folder that is this user's alone, the same for all processes of the user. Raises StoreError without any."""
    tried = []
    for path in _candidates():
        try:
            return _private_folder(path)
        except OSError as e:
            tried.append(f"{path}: {e.strerror or e}")
    fix = f"XDG_RUNTIME_DIR=/a/folder/of/yours; tried {'; '.join(tried)}"
    raise StoreError("no folder for locks that is this user's alone", fix)


def _candidates() -> Iterator[Path]:
    """In order: what goes when the user logs out, what anyone could have made, what may lie on another machine."""
    user = os.getuid()
    session = Path(os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{user}")
    if session.is_dir() and session.stat().st_uid == user:  # another's, after sudo
        yield session / "autovoice"
    yield Path(tempfile.gettempdir()) / f"autovoice-{user}"
    yield Path(os.path.expanduser("~")) / ".autovoice-locks"


def _private_folder(path: Path) -> Path:
    """The folder, made where it is not there. Raises OSError where it is not this user's own, or is a link."""
    with suppress(FileExistsError):
        os.mkdir(path, 0o700)
    found = os.lstat(path)
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise PermissionError(errno.EPERM, "is not a folder of this user")
    if found.st_mode & 0o077:
        os.chmod(path, 0o700)
    return path


class Lock:
    """One holder or waiter of the lock `name`; `what` is what it is called. Taken shared with others, or alone."""

    def __init__(self, name: str, what: str) -> None:
        self.name, self.what = name, what
        self._folder = Path()
        self._fd = -1
        self._slip = Slip(what, False)
        self._path = Path()
        self._aside = ""

    def take(self, alone: bool) -> None:
        """Wait until it is had."""
        if not self.try_take(alone):
            try:
                self._wait()
            except BaseException:
                self.give()
                raise

    def try_take(self, alone: bool) -> bool:
        """Take it unless that means to wait."""
        self._folder = lock_folder()
        self._path = lock_entries.place(self._folder, self.name)
        self._slip, self._aside = Slip(self.what, alone), ""
        return self._try()

    def give(self) -> None:
        """Give it back, or give up waiting; harmless where there is nothing to give."""
        lock_entries.remove(self._path)
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            fcntl.flock(fd, fcntl.LOCK_UN)  # closing is not enough where a child has the descriptor too
            os.close(fd)

    def disturbed(self) -> bool:
        """Whether someone works beside: after this process was stopped, or that one."""
        return any(slip.held and slip.running for slip in self._others())

    def let_others(self, seconds: float = 0.5) -> bool:
        """Let those have it who wait for it now, then take it again; False where nobody does."""
        waiters = {path for path, slip in lock_entries.slips(self._folder, self.name) if not slip.held}
        if not waiters:
            return False
        self.give()
        end = time.monotonic() + seconds
        while time.monotonic() < end and any(not slip.held for p, slip in self._slips() if p in waiters):
            time.sleep(POLL)
        self.take(self._slip.alone)
        return True

    def renew(self) -> None:
        """Give it back and take it as it is for others now: its file may have been set aside meanwhile."""
        self.give()
        self.take(self._slip.alone)

    # -- waiting ----------------------------------------------------------------------------------

    def _slips(self) -> list[tuple[Path, Slip]]:
        return list(lock_entries.slips(self._folder, self.name))

    def _others(self) -> list[Slip]:
        return [slip for path, slip in self._slips() if path != self._path]

    def _try(self) -> bool:
        others = self._others()
        if not self._blocked(others) and not self._yields(others):
            self._fd = self._locked()
        if self._fd < 0:
            return False
        self._slip = replace(self._slip, held=True, since=time.time(), said=self._aside)
        lock_entries.write(self._path, self._slip)
        return True

    def _locked(self) -> int:
        """The descriptor of the lock's file, -1 where others have it."""
        path = self._folder / f"{self.name}.lock"
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(fd, (fcntl.LOCK_EX if self._slip.alone else fcntl.LOCK_SH) | fcntl.LOCK_NB)
            if os.fstat(fd).st_ino == os.stat(path).st_ino:
                return fd
        except (BlockingIOError, FileNotFoundError):  # or set aside just now
            pass
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)
        return -1

    def _blocked(self, others: list[Slip]) -> bool:
        """By one whose file was set aside and who works again."""
        return any(s.held and s.seen and s.running and (s.alone or self._slip.alone) for s in others)

    def _yields(self, others: list[Slip]) -> bool:
        """To one who has long waited to have it alone, unless this process has it already: that one waits for it."""
        if self._slip.alone or any(s.held and s.pid == self._slip.pid for s in others):
            return False
        return any(s.alone and not s.held and time.time() - s.since > PATIENCE for s in others)

    def _wait(self) -> None:
        lock_entries.write(self._path, self._slip)
        idle = time.monotonic()
        tell_at = idle + TELL_AFTER
        while not self._try():
            time.sleep(POLL)
            lock_entries.touch(self._path)
            now, others = time.monotonic(), self._others()
            holders = [s for s in others if s.held]
            if self._yields(others) or any(s.running for s in holders):
                idle = now
            if now >= tell_at:
                self._tell(f"waiting for {self.what}: {_listed(holders or others)}")
                tell_at = now + TELL_AGAIN
            if now - idle > GRACE:
                self._set_aside(holders)

    def _set_aside(self, holders: list[Slip]) -> None:
        """Let the next ones lock a new file, unless another has done so."""
        fd = os.open(self._folder / f"{self.name}.aside", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            if not any(s.held and s.running for s in self._others()):
                (self._folder / f"{self.name}.lock").unlink(missing_ok=True)
                self._aside = f"going on beside {_listed(holders)}"
                self._tell(self._aside)
        finally:
            os.close(fd)

    def _tell(self, text: str) -> None:
        """A user's own command says it; for a worker its driver does, which reads the slips."""
        self._slip = lock_entries.say(self._path, self._slip, text)
        if WORKER not in os.environ:
            print(text, file=sys.stderr, flush=True)


def _listed(holders: list[Slip]) -> str:
    shown = [str(s) for s in sorted(holders, key=lambda s: (not s.running, s.since))]
    shown = list(dict.fromkeys(shown))
    more = f", and {len(shown) - 1} more" if len(shown) > 1 else ""
    return f"{shown[0]}{more}" if shown else "a process that is gone, or one of its children"


class Notices:
    """What the workers of this process wait for, each thing said once a minute."""

    def __init__(self) -> None:
        self._said: dict[str, float] = {}
        self._next = 0.0

    def new(self) -> list[str]:
        now = time.monotonic()
        if now < self._next:
            return []
        self._next = now + 1.0
        texts = {s.said for _, s in lock_entries.slips(lock_folder()) if s.said and s.driver == os.getpid() != s.pid}
        fresh = [t for t in sorted(texts) if now - self._said.get(t, -TELL_AGAIN) >= TELL_AGAIN]
        self._said |= dict.fromkeys(fresh, now)
        return fresh
