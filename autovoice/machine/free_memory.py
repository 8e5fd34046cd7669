"""The memory that this process may still take, so that a file's claim can be refused before it is believed."""

from __future__ import annotations

import re
import resource
from pathlib import Path

_PROC = Path("/proc")
_CGROUP = Path("/sys/fs/cgroup")


def available(proc: Path = _PROC, cgroup: Path = _CGROUP) -> int | None:
    """Bytes: the least of what the machine, a container and a limit of this process leave; None where nobody says."""
    known = [n for n in (_machine(proc), _container(cgroup), _process(proc)) if n is not None]
    return max(0, min(known)) if known else None


def _machine(proc: Path) -> int | None:
    found = re.search(r"^MemAvailable:\s+(\d+) kB", _text(proc / "meminfo"), re.MULTILINE)
    return int(found[1]) * 1024 if found else None


def _container(cgroup: Path) -> int | None:
    """Files that the kernel keeps in memory count as used there, and are given back when memory is wanted."""
    limit, used = (_text(cgroup / name).strip() for name in ("memory.max", "memory.current"))
    if not (limit.isdigit() and used.isdigit()):
        return None
    kept = re.search(r"^inactive_file (\d+)$", _text(cgroup / "memory.stat"), re.MULTILINE)
    return int(limit) - int(used) + (int(kept[1]) if kept else 0)


def _process(proc: Path) -> int | None:
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    pages = _text(proc / "self" / "statm").split()
    if limit == resource.RLIM_INFINITY or not pages:
        return None
    return limit - int(pages[0]) * resource.getpagesize()


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:  # another kernel, or a container that hides it
        return ""
