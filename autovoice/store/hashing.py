"""sha256 of files and of JSON; files are remembered by their path and all that changes when they do."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from stat import S_ISDIR, S_ISREG
from typing import Any

#: a file changed this recently may change again within the clock's tick: its digest is not remembered
_TICK_NS = 50_000_000
#: times in whole seconds may be all that a file system keeps; the coarsest (FAT) keeps every other second
_SECOND_NS = 1_000_000_000
_COARSE_NS = 2 * _SECOND_NS + _TICK_NS
_SHA256 = re.compile(r"[0-9a-f]{64}")

#: device, inode, size, time of the content and of the change: an archive's times come back, the last one never does
Identity = tuple[int, ...]
_KNOWN: dict[str, tuple[Identity, str]] = {}
_CHANGED: set[str] = set()
#: digests of files that have several names, as those of the store do in output folders
_LINKED: dict[Identity, str] = {}


def canonical_json(data: Any) -> bytes:
    """One spelling for one value: sorted keys, no spaces, no NaN."""
    return json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def json_sha256(data: Any) -> str:
    return hashlib.sha256(canonical_json(data)).hexdigest()


def value_sha256(data: Any) -> str:
    """The digest of a JSON value, however its text is laid out; NaN and infinities as Python writes them."""
    return hashlib.sha256(json.dumps(data, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def file_sha256(path: Path) -> str:
    """The digest of a file's whole content, recomputed only when the file changed. Raises OSError."""
    stat = os.stat(path)
    if not S_ISREG(stat.st_mode) and not S_ISDIR(stat.st_mode):  # reading a pipe or a device may never end
        raise OSError(errno.EINVAL, "is no regular file")
    identity, name = _identity(stat), os.path.abspath(path)
    known = _KNOWN.get(name)
    if known is not None and known[0] == identity:
        return known[1]
    if stat.st_nlink > 1 and identity in _LINKED:
        return _learn(name, identity, _LINKED[identity])
    with open(path, "rb") as file:
        before = os.fstat(file.fileno())
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        after = os.fstat(file.fileno())
    if _identity(before) == _identity(after) and _settled(after):
        if after.st_nlink > 1:
            _LINKED[_identity(after)] = digest
        _learn(name, _identity(after), digest)
    return digest


def _identity(stat: os.stat_result) -> Identity:
    return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns


def coarse(stat: os.stat_result) -> bool:
    """True where times may be kept in whole seconds: within one of them, changes cannot be told apart."""
    return any(t % _SECOND_NS == 0 for t in (stat.st_mtime_ns, stat.st_ctime_ns))


def _settled(stat: os.stat_result) -> bool:
    """False where another change right now would leave the file's times as they are."""
    now, resolution = time.time_ns(), _COARSE_NS if coarse(stat) else _TICK_NS
    return all(abs(now - t) > resolution for t in (stat.st_mtime_ns, stat.st_ctime_ns))


def _learn(name: str, identity: Identity, digest: str) -> str:
    _KNOWN[name] = (identity, digest)
    _CHANGED.add(name)
    return digest


def uncached_sha256(path: Path) -> str:
    """The digest of a file's whole content, read now."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def forget(paths: Iterable[Path]) -> None:
    """Drop what is known of files that turned out to be something else."""
    for path in paths:
        name = os.path.abspath(path)
        known = _KNOWN.pop(name, None)
        if known is not None:
            _LINKED.pop(known[0], None)
            _CHANGED.add(name)


def remember(known: Mapping[str, Any]) -> None:
    """Take digests over from an earlier run, as far as they are of this form."""
    for name, entry in known.items():
        match entry:
            case [[*identity], str(digest)] if len(identity) == 5 and _SHA256.fullmatch(digest):
                if all(type(n) is int for n in identity):
                    _KNOWN[name] = (tuple(identity), digest)


def learned() -> dict[str, tuple[Identity, str]] | None:
    """Every digest known, when something was learned since `remember`; None otherwise."""
    return dict(_KNOWN) if _CHANGED else None
