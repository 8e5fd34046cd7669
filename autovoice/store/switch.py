"""A folder that is replaced as a whole: whoever opens it has all of the old one or all of the new one.

The new one is made beside it, hidden, and the two change places in one step. What the old one holds of the user's own
goes along; what a killed process leaves hidden is taken up by the next replacement.
"""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import stat
import uuid
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from autovoice.errors import StoreError
from autovoice.store.atomic import make_folder, part_of, parts_in, target_of

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
#: what a kernel or a file system says that has no such call
_UNKNOWN = (errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOTSUP)
#: how often a file that comes into a folder while it is emptied is moved after the others
_ROUNDS = 10
_ELSEWHERE = "paths.outputs=/another/folder"

#: the names in a folder that are its build's own; all others are the user's
Own = Callable[[Path], Collection[str]]


@contextmanager
def replacing(folder: Path, own: Own) -> Iterator[Path]:
    """A new folder to fill, which takes the place of `folder` when the block ends; an error leaves all as it was."""
    check_replaceable(folder)
    new = part_of(folder)
    make_folder(new)
    made = new.stat()
    try:
        yield new
        if folder.is_dir():
            _link_others(folder, new, {*own(folder), *own(new)})
            _like(folder, new)
        sync(new)
        _switch(new, folder)
        sync(folder.parent)
    except BaseException:
        if new.is_dir() and os.path.samestat(new.stat(), made):  # not the old one, which holds the user's files
            shutil.rmtree(new, ignore_errors=True)
        raise
    sweep(folder, own)


def check_replaceable(folder: Path) -> None:
    """Raises StoreError for a folder that cannot change places with another, or whose content cannot be moved."""
    if os.path.lexists(folder) and not folder.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, "a file stands where a folder should be")
    if not folder.is_dir():
        return
    if os.path.ismount(folder):
        raise StoreError(f"{folder}: is a mount point, and cannot be replaced by its new build", _mounted(folder))
    for entry in os.scandir(folder):
        if entry.is_dir(follow_symlinks=False) and os.path.ismount(entry.path):
            raise StoreError(f"{entry.path}: is a mount point, and cannot go along with a new build", _ELSEWHERE)


def sweep(folder: Path, own: Own) -> None:
    """Take up what was left hidden beside a folder: the user's files into it, nothing else is kept."""
    if not folder.is_dir():
        return
    for left in parts_in(folder.parent, folder.name):
        if left.is_dir() and not left.is_symlink():
            _take_up(left, folder, own)


def remove_left(left: Path, own: Own) -> None:
    """The same for one that is left where the folder itself may be gone: it comes back if it holds the user's files."""
    folder = target_of(left)
    names = own(left)
    others = [n for n in os.listdir(left) if n not in names and not _is_part(n, names)]
    if folder.is_dir():
        _take_up(left, folder, own)
    elif not others:
        shutil.rmtree(left)
    else:
        os.rename(left, folder)


def sync(folder: Path) -> None:
    """What stands in a folder under which name stays so after a power cut."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _mounted(folder: Path) -> str:
    return f"mount {folder.parent} instead, or {_ELSEWHERE}"


def _like(folder: Path, new: Path) -> None:
    """The same mode, and as far as it may be given, the same owner."""
    old = folder.stat()
    with suppress(PermissionError):  # the owner is who builds, as with any file that is written anew
        if (old.st_uid, old.st_gid) != (os.geteuid(), os.getegid()):
            os.chown(new, old.st_uid, old.st_gid)
    new.chmod(stat.S_IMODE(old.st_mode))


def _link_others(folder: Path, new: Path, own: Collection[str]) -> None:
    """The user's files in both, so that they are never absent; what cannot be linked is moved after the switch."""
    for entry in os.scandir(folder):
        if entry.name not in own and not _is_part(entry.name, own) and not entry.is_dir(follow_symlinks=False):
            with suppress(OSError):
                os.link(entry.path, new / entry.name, follow_symlinks=False)


# -- the switch ------------------------------------------------------------------------------------


def _switch(new: Path, folder: Path) -> None:
    if not folder.is_dir():
        os.rename(new, folder)
        return
    try:
        exchange(new, folder)
    except OSError as e:
        if e.errno in _UNKNOWN:
            _in_two_steps(new, folder)
        elif e.errno in (errno.EXDEV, errno.EBUSY):
            fact = f"{folder}: cannot be replaced: it is mounted, or lies in the lower layer of an overlay"
            raise StoreError(fact, f"remove it, or {_mounted(folder)}") from e
        else:
            raise


def exchange(one: Path, other: Path) -> None:
    """Two names in one step. Raises OSError, of the numbers in `_UNKNOWN` where that is not possible."""
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "renameat2"):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    if libc.renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(other))


def _in_two_steps(new: Path, folder: Path) -> None:
    """For a moment nothing stands at the name: readers wait for what is hidden to come back."""
    away = part_of(folder)
    os.rename(folder, away)
    try:
        os.rename(new, folder)
    except BaseException:
        os.rename(away, folder)
        raise


# -- what is left ----------------------------------------------------------------------------------


def _take_up(left: Path, folder: Path, own: Own) -> None:
    known = {*own(left), *own(folder)}
    for _ in range(_ROUNDS):
        for entry in list(os.scandir(left)):
            ours = entry.name in known or _is_part(entry.name, known)
            if ours and not entry.is_dir(follow_symlinks=False):
                os.unlink(entry.path)
            else:
                _move(Path(entry.path), folder / entry.name)
        try:
            left.rmdir()
            return
        except OSError as e:
            if e.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise


def _move(source: Path, target: Path) -> None:
    """Of two files of one name the newer; of anything else both."""
    if not os.path.lexists(target):
        os.rename(source, target)
        return
    here, there = os.lstat(source), os.lstat(target)
    if os.path.samestat(here, there):
        source.unlink()
    elif stat.S_ISDIR(here.st_mode) or stat.S_ISDIR(there.st_mode):
        os.rename(source, target.with_name(f"{target.name}.{uuid.uuid4().hex[:8]}"))
    elif here.st_mtime_ns > there.st_mtime_ns:
        os.replace(source, target)
    else:
        source.unlink()


def _is_part(name: str, own: Collection[str]) -> bool:
    """A file of the build's own that was being written."""
    stem, _, tail = name.rpartition(".")
    return stem.startswith(".") and stem[1:] in own and len(tail) == 8
