"""Files that are whole or absent."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

#: beside the files of an artefact: what it was made of, and what its step said
RECORD = "record.json"
#: what a calibration comes to: a range for each tensor
RANGES = "ranges.json"


def write_atomically(path: Path, content: bytes) -> None:
    """Write beside `path` and rename, so that no one ever reads half a file."""
    with atomic_file(path) as file:
        file.write(content)


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """The same for content that comes piece by piece: an error inside leaves what stood there before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        with open(part, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def link_or_copy(source: Path, target: Path) -> None:
    """A hard link, or a copy where the file system cannot link; replaces what stands there."""
    part = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}")
    try:
        try:
            os.link(source, part)
        except OSError:
            shutil.copyfile(source, part)
        os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)  # renaming one hard link over another of the same file leaves both
