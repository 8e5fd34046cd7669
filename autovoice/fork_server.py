"""Imported by the fork server of the workers and by nothing else: it outlives a SIGTERM sent to the whole group.

So the driver learns from it when each worker is really gone, and can then remove what that had half-written.
"""

from __future__ import annotations

import signal
from typing import Any


def _stay(*_: Any) -> None:
    """Not SIG_IGN, which programs that a worker starts would inherit. The server ends with its driver."""


signal.signal(signal.SIGTERM, _stay)
