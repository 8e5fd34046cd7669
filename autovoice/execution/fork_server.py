"""Imported first by the fork server of the workers, and by nothing else: signals of the whole group do not end it.

So the driver learns from it when each worker is really gone, and can then remove what that had half-written. It is
started with both signals blocked, so that they find it ready.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

#: whose workers are forked here
_DRIVER = os.getppid()


def _stay(*_: Any) -> None:
    """Not SIG_IGN, which programs that a worker starts would inherit. The server ends with its driver."""


def _report(*error: Any) -> None:
    """Print what ends a worker, unless its driver was killed while it started: nobody waits for it any more."""
    if os.path.exists(f"/proc/{_DRIVER}") or not os.path.exists("/proc/self"):
        sys.__excepthook__(*error)


sys.excepthook = _report
signal.signal(signal.SIGTERM, _stay)
signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the driver's to handle, also while modules are imported here
signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGINT, signal.SIGTERM))
