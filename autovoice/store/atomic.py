"""Files that are whole or absent, and what killed writers left of them."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import stat
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

#: beside the files of an artefact: what it was made of, and what its step said
RECORD = "record.json"
#: what a calibration comes to: a range for each tensor
RANGES = "ranges.json"
_PART = re.compile(r"\.(.+)\.[0-9a-f]{8}")


def write_atomically(path: Path, content: bytes, mode: int | None = None) -> None:
    """Write beside `path` and rename, so that no one ever reads half a file; `mode` in place of the umask's."""
    with atomic_file(path, mode) as file:
        file.write(content)


@contextmanager
def atomic_file(
    path: Path, mode: int | None = None, exclusive: bool = False, parents: bool = True
) -> Iterator[BinaryIO]:
    """The same for content that comes piece by piece: an error inside leaves what stood there before.

    With `exclusive`, a file that stands there in the end is not replaced: FileExistsError. With `parents`, missing
    folders are made.
    """
    if parents:
        path.parent.mkdir(parents=True, exist_ok=True)
    sweep_parts(path.parent, path.name)
    part, file = _locked_part(path)
    try:
        with file:  # held until it has its name
            yield file
            file.flush()
            if mode is not None:
                os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
            _put(part, path, exclusive)
    finally:
        part.unlink(missing_ok=True)


def _put(part: Path, path: Path, exclusive: bool) -> None:
    if not exclusive:
        os.replace(part, path)
        return
    try:
        os.link(part, path)  # unlike a rename, refused where a file of that name has come meanwhile
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        if os.path.lexists(path):
            raise FileExistsError(path) from None
        os.replace(part, path)


def link_or_copy(source: Path, target: Path) -> None:
    """A hard link, or a copy where the file system cannot link; replaces what stands there."""
    part = part_of(target)
    with open(source, "rb") as held:  # the link is the same file: held before it is there
        _hold(held.fileno())
        try:
            try:
                os.link(source, part)
            except OSError:
                _copy(source, target)
                return
            os.replace(part, target)
        finally:
            part.unlink(missing_ok=True)  # renaming one hard link over another of the same file leaves both


def _copy(source: Path, target: Path) -> None:
    with open(source, "rb") as content, atomic_file(target) as file:
        shutil.copyfileobj(content, file)


# -- parts -----------------------------------------------------------------------------------------


def part_of(path: Path) -> Path:
    """A new hidden name beside `path`, for what is to take its place."""
    return path.with_name(f".{_stem(path.name)}.{uuid.uuid4().hex[:8]}")


def _stem(name: str) -> str:
    """The name as far as there is room for more: file systems take 255 bytes."""
    return os.fsdecode(os.fsencode(name)[:245])


def _locked_part(path: Path) -> tuple[Path, BinaryIO]:
    """A new part, held by its open file for as long as it is written."""
    while True:
        part = part_of(path)
        file = open(part, "xb")  # noqa: SIM115 - the caller closes it
        _hold(file.fileno())
        if os.fstat(file.fileno()).st_nlink:
            return part, file
        file.close()  # swept between its making and its holding


def _hold(fd: int) -> None:
    with suppress(OSError):  # where files cannot be held, none is found abandoned either
        fcntl.flock(fd, fcntl.LOCK_SH)


def sweep_parts(folder: Path, name: str | None = None) -> None:
    """Remove what writers of `folder` (of `name` alone, if given) left behind when they were killed.

    A file that is being written is held by its writer and stays, whatever process or machine that is. Folders
    go only by `name`: who sweeps them holds that name's lock, and so is their only writer.
    """
    for part in parts_in(folder, name):
        if part.is_dir() and not part.is_symlink():
            if name is not None:
                shutil.rmtree(part, ignore_errors=True)
            continue
        with suppress(OSError), _abandoned(part) as left:
            if left:
                part.unlink()


def left_in(folder: Path) -> list[Path]:
    """What `sweep_parts` would remove, and folders of that kind."""
    found = []
    for part in parts_in(folder):
        with suppress(OSError), _abandoned(part) as left:
            found += [part] if left else []
    return found


def parts_in(folder: Path, name: str | None = None) -> list[Path]:
    """Everything in `folder` that is called as a part is, in use or not."""
    try:
        names = sorted(os.listdir(folder))
    except OSError:  # nothing there to sweep
        return []
    called = ((n, _PART.fullmatch(n)) for n in names)
    return [folder / n for n, m in called if m and (name is None or m[1] == _stem(name))]


def is_part(path: Path) -> bool:
    """Whether it is called as a part is."""
    return _PART.fullmatch(path.name) is not None


def target_of(part: Path) -> Path:
    """What a part was to become."""
    named = _PART.fullmatch(part.name)
    assert named is not None
    return part.with_name(named[1])


@contextmanager
def _abandoned(part: Path) -> Iterator[bool]:
    """True while no one else holds it, and no one else can."""
    flags = os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        fd = os.open(part, os.O_RDWR | flags)  # some network file systems want that of who holds a file alone
    except OSError:
        fd = os.open(part, os.O_RDONLY | flags)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
        else:
            yield True
    finally:
        os.close(fd)


# -- who may use them ------------------------------------------------------------------------------


def make_folder(path: Path) -> None:
    """Make a folder and those above it, each open to whom the one above it is open to."""
    missing = []
    while not path.is_dir():
        missing.append(path)
        path = path.parent
    for folder in reversed(missing):
        with suppress(FileExistsError):
            folder.mkdir()
            share(folder, folder.parent)
        if not folder.is_dir():
            raise FileExistsError(17, "File exists", str(folder))


def share(made: int | Path, folder: Path) -> None:
    """Give what was made in `folder`, a file or a folder, the folder's own permissions.

    A umask would shut out the others who may write there. Nothing follows a folder as /tmp, where everybody may.
    """
    with suppress(OSError):  # another user's, or a file system without permissions
        allowed, now = os.stat(folder).st_mode, os.stat(made).st_mode
        wanted = stat.S_IMODE(allowed) if stat.S_ISDIR(now) else allowed & 0o666
        if not allowed & stat.S_ISVTX and wanted != stat.S_IMODE(now):
            os.chmod(made, wanted)
