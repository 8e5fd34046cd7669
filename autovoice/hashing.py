"""sha256 of files and of JSON, files remembered by (path, size, mtime, inode)."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

#: a file changed this recently may change again within the clock's tick: its digest is not remembered
_RACY_NS = 50_000_000

_KNOWN: dict[str, tuple[list[int], str]] = {}
_CHANGED: set[str] = set()


def canonical_json(data: Any) -> bytes:
    """One spelling for one value: sorted keys, no spaces, no NaN."""
    return json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def json_sha256(data: Any) -> str:
    return hashlib.sha256(canonical_json(data)).hexdigest()


def file_sha256(path: Path) -> str:
    """The digest of a file's whole content, recomputed only when the file changed. Raises OSError."""
    stat = os.stat(path)
    identity = [stat.st_size, stat.st_mtime_ns, stat.st_ino]
    name = os.path.abspath(path)
    known = _KNOWN.get(name)
    if known is not None and known[0] == identity:
        return known[1]
    digest = uncached_sha256(path)
    if time.time_ns() - stat.st_mtime_ns > _RACY_NS:
        _KNOWN[name] = (identity, digest)
        _CHANGED.add(name)
    return digest


def uncached_sha256(path: Path) -> str:
    """The digest of a file's whole content, read now."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def remember(known: Mapping[str, Any]) -> None:
    """Take digests over from an earlier run."""
    _KNOWN.update({name: (list(identity), digest) for name, (identity, digest) in known.items()})


def learned() -> dict[str, tuple[list[int], str]] | None:
    """Every digest known, when something was learned since `remember`; None otherwise."""
    return dict(_KNOWN) if _CHANGED else None
