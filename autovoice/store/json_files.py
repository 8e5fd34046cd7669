"""JSON read within bounds: regular files alone, no longer and no deeper than what this tool writes."""

from __future__ import annotations

import errno
import json
import os
import stat
from pathlib import Path
from typing import Any

LIMIT = 64 << 20
DEPTH = 64

_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISSOCK, "a socket"),
)


def open_regular(path: str | Path, folder: int | None = None, follow: bool = False) -> int:
    """A descriptor of a regular file, `path` being relative to the descriptor of a folder where one is given.

    Raises OSError for anything else, which is not waited for, and for a link unless `follow` is said.
    """
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW)
    try:
        fd = os.open(path, flags, dir_fd=folder)
    except OSError as e:
        if e.errno == errno.ELOOP:
            raise OSError(errno.ELOOP, "is a link, not a regular file") from e
        if e.errno == errno.ENXIO:
            raise OSError(errno.ENXIO, "is a socket or a device, not a regular file") from e
        raise
    mode = os.fstat(fd).st_mode
    if not stat.S_ISREG(mode):
        os.close(fd)
        kind = next((name for matches, name in _KINDS if matches(mode)), "something else")
        raise OSError(errno.EINVAL, f"is {kind}, not a regular file")
    return fd


def read_regular(path: str | Path, limit: int = LIMIT, folder: int | None = None, follow: bool = False) -> bytes:
    """The content of a regular file. Raises OSError as `open_regular` does, and for more than `limit` bytes."""
    with open(open_regular(path, folder, follow), "rb") as file:
        if os.fstat(file.fileno()).st_size > limit:
            raise OSError(errno.EFBIG, f"has more than {limit >> 20} MiB")
        content = file.read(limit + 1)
    if len(content) > limit:  # it grows while it is read
        raise OSError(errno.EFBIG, f"has more than {limit >> 20} MiB")
    return content


def read_json(path: str | Path, limit: int = LIMIT, folder: int | None = None, follow: bool = False) -> Any:
    """A file's JSON. Raises OSError as `read_regular` does, ValueError for what is not JSON or too deep."""
    return parse_json(read_regular(path, limit, folder, follow))


def parse_json(content: bytes | str) -> Any:
    """The same from memory; a key said twice in one object is an error too."""
    try:
        data = json.loads(content, object_pairs_hook=_unique)
    except RecursionError as e:
        raise ValueError("it is nested too deeply") from e
    _check_depth(data)
    return data


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    data = dict(pairs)
    if len(data) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice!r} is there twice")
    return data


def _check_depth(data: Any) -> None:
    """By levels: whoever walks it later may recurse."""
    level = [data]
    for _ in range(DEPTH):
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
        if not level:
            return
    raise ValueError("it is nested too deeply")
