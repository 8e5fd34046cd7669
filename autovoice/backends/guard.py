"""An object that several threads may use until it is closed, in the process that made it."""

from __future__ import annotations

import os
import threading
from collections import Counter
from types import TracebackType

from autovoice.errors import BuildError


class Guard:
    """Entered by every use of `what`; `close` lets no more in and waits for those inside.

    A fork has neither the threads nor the GPU of its parent: it may not use what it inherits, and frees nothing of it.
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._pid = os.getpid()
        self._left = threading.Condition()
        self._users: Counter[int] = Counter()
        self._closed = False

    def __enter__(self) -> None:
        if os.getpid() != self._pid:  # before the lock, which a thread of the parent may have held
            fact = f"this {self._what} was loaded by process {self._pid}, and process {os.getpid()} is a fork of it"
            raise BuildError(fact, "load it in the process that runs it, or start processes by 'spawn'")
        with self._left:
            if self._closed:
                raise BuildError(f"this {self._what} is closed", "load it again")
            self._users[threading.get_ident()] += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        me = threading.get_ident()
        with self._left:
            self._users[me] -= 1
            if not self._users[me]:
                del self._users[me]
            if self._closed and not self._users:
                self._left.notify_all()

    def close(self) -> bool:
        """True when no one uses it any more and the caller, alone and once, is to free it.

        Raises BuildError inside a use by the same thread, as in the handler of a signal.
        """
        if os.getpid() != self._pid:
            return False
        with self._left:
            if threading.get_ident() in self._users:
                raise BuildError(f"this {self._what} is running in the thread that closes it", "close it afterwards")
            if self._closed:
                return False
            self._closed = True
            while self._users:
                self._left.wait()
        return True
