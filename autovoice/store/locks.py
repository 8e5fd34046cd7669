"""Lock files that everybody who uses a folder can hold. The kernel lets go of them when a holder dies."""

from __future__ import annotations

import errno
import fcntl
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from autovoice.store.atomic import share

#: why nothing can be written where others, or nobody, can
UNWRITABLE = (errno.EROFS, errno.EACCES, errno.EPERM)


@contextmanager
def locked(path: Path, like: Path, wait: bool = True) -> Iterator[None]:
    """Hold a lock file alone, made where there is none with the permissions of the folder `like`; others wait.

    Raises BlockingIOError where somebody else holds it and this one is not to `wait`.
    """
    fd = _opened(path, like)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield
    finally:
        os.close(fd)


@contextmanager
def shared(path: Path, like: Path, alone: bool, waiting: str) -> Iterator[None]:
    """Hold it with others, or alone; says `waiting` where that takes time."""
    mode = fcntl.LOCK_EX if alone else fcntl.LOCK_SH
    fd = _opened(path, like)
    try:
        try:
            fcntl.flock(fd, mode | fcntl.LOCK_NB)
        except BlockingIOError:
            print(waiting, file=sys.stderr, flush=True)
            fcntl.flock(fd, mode)
        yield
    finally:
        os.close(fd)


def _opened(path: Path, like: Path) -> int:
    """Its descriptor; one that this user may only read can be held too."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as e:
        if e.errno not in UNWRITABLE:
            raise
        try:
            return os.open(path, os.O_RDONLY)
        except FileNotFoundError:
            raise e from None
    if os.fstat(fd).st_uid == os.geteuid():
        share(fd, like)
    return fd
