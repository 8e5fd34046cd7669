"""Imported first by the fork server of the workers, and by nothing else: signals of the whole group do not end it.

So the driver learns from it when each worker is really gone, and can then remove what that had half-written. It is
started with both signals blocked, so that they find it ready.
"""

from __future__ import annotations

import os
import signal
import sys
from types import TracebackType
from typing import Any

#: whose workers are forked here
_DRIVER = os.getppid()


def _stay(*_: Any) -> None:
    """Not SIG_IGN, which programs that a worker starts would inherit. The server ends with its driver."""


def _report(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print what ends a worker, unless nobody waits for it any more: its driver was killed, or has given it up."""
    driver_gone = os.path.exists("/proc/self") and not os.path.exists(f"/proc/{_DRIVER}")
    if not driver_gone and not _given_up(error, trace):
        sys.__excepthook__(kind, error, trace)


def _given_up(error: BaseException, trace: TracebackType | None) -> bool:
    """True where the semaphores that a worker starts with are gone: its driver unlinks them when it gives it up."""
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    where = "" if trace is None else trace.tb_frame.f_globals.get("__name__")
    return isinstance(error, FileNotFoundError) and where == "multiprocessing.synchronize"


sys.excepthook = _report
signal.signal(signal.SIGTERM, _stay)
signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the driver's to handle, also while modules are imported here
signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGINT, signal.SIGTERM))
