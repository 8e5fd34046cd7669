"""What may stand where a file should: bytes that are no JSON, and things that are no files."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

TEXTS: dict[str, bytes] = {
    "empty": b"",
    "deep lists": b"[" * 1_000_000,
    "deep objects": b'{"a":' * 1_000_000,
    "NUL bytes": bytes(1_000_000),
    "not UTF-8": b'{"schema": "\xff\xfe"}',
    "UTF-16": '{"schema": 1}'.encode("utf-16"),
    "a huge number": b'{"schema": ' + b"9" * 1_000_000 + b"}",
    "schema is a huge number": b'{"schema": ' + b"9" * 4000 + b"}",
    "one string": b'"' + b"x" * 50_000_000 + b'"',
    "many keys": b"{" + b",".join(b'"%d":0' % i for i in range(500_000)) + b"}",
    "the same key twice": b'{"schema": 1, "schema": 2}',
    "a list": b"[]",
    "null": b"null",
}


def _fifo(path: Path) -> None:
    os.mkfifo(path)


def _socket(path: Path) -> None:
    here = os.getcwd()
    os.chdir(path.parent)  # its address is short
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(path.name)
    os.chdir(here)


def _sparse(path: Path) -> None:
    with open(path, "wb") as file:
        file.truncate(200 * 2**30)


def _link(target: str) -> Callable[[Path], None]:
    return lambda path: path.symlink_to(target)


def _loop(path: Path) -> None:
    path.symlink_to(path.name)


def _closed(path: Path) -> None:
    path.mkdir()
    (path / "manifest.json").write_text("{}")


SPECIAL: dict[str, Callable[[Path], None]] = {
    "a FIFO": _fifo,
    "a folder": _closed,
    "a socket": _socket,
    "200 GiB of nothing": _sparse,
    "a link to itself": _loop,
    **{f"a link to {t}": _link(t) for t in ("/dev/zero", "/dev/full", "/dev/random", "/dev/tty", "/proc/self/mem")},
    **{f"a link to {t}": _link(t) for t in ("/nowhere", "/", "/etc/passwd", "../../store", "/proc/kmsg")},
}


def put(path: Path, make: Callable[[Path], None] | bytes) -> None:
    shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)
    path.write_bytes(make) if isinstance(make, bytes) else make(path)
