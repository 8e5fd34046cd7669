"""What a measured time belongs to."""

from __future__ import annotations

import os
import platform
import re
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
