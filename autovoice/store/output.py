"""The file that a task writes where its user says: a new one, or a regular one that is to be replaced.

Never an input of the task, nor a file of a store or of a published folder, under whatever name or link.
"""

from __future__ import annotations

import errno
import os
import shlex
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from autovoice.errors import ConfigError, Fault, unwritable
from autovoice.store.atomic import atomic_file

KEY = "output"
#: as in `autovoice.runtime.manifest`, which is no part of what reads and writes recordings
MANIFEST = "manifest.json"
_WHY = {
    errno.ENAMETOOLONG: ("its name is longer than the file system takes", "give a shorter one, of at most 255 bytes"),
    errno.ELOOP: ("its links lead in a circle", "give another name"),
    errno.ENOTDIR: ("a file stands where a folder should be", "give another folder"),
    errno.EACCES: ("there is no permission to look into its folder", "give another folder"),
}
_KINDS = (
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
)


@dataclass(frozen=True)
class Output:
    """`path` as it was given; `inputs` by what they are called, each a file that must stay as it is.

    `kept` are folders of which no file may be written, as the store. An existing file is replaced with `overwrite`.
    """

    path: Path
    overwrite: bool = False
    inputs: Mapping[str, Path] = field(default_factory=dict)
    kept: tuple[Path, ...] = ()

    @property
    def target(self) -> Path:
        """Where the content goes: links are followed."""
        return Path(os.path.realpath(self.path))

    def check(self) -> None:
        """Raise ConfigError unless the file may be written. Before long work, and again when it is done."""
        fault = self.fault()
        if fault is not None:
            raise ConfigError([fault])

    def fault(self) -> Fault | None:
        refused = self._refusal()
        return None if refused is None else Fault(KEY, f"{self.path} {refused[0]}", refused[1])

    @contextmanager
    def open(self) -> Iterator[BinaryIO]:
        """Write it, whole or not at all. Raises ConfigError for what has come there since, StoreError for the disk."""
        self.check()
        try:
            with atomic_file(self.target, exclusive=not self.overwrite, parents=False) as file:
                yield file
        except FileExistsError as e:
            raise ConfigError([Fault(KEY, f"{self.path} {_EXISTS[0]}", _EXISTS[1])]) from e
        except OSError as e:
            raise unwritable(str(self.path), e, f"{KEY}=/another/folder/{self.path.name}") from e

    def _refusal(self) -> tuple[str, str] | None:
        """The fact, as it follows the name, and the fix."""
        try:
            target = self.target
            found = os.stat(target)
        except FileNotFoundError:
            return self._in_folder(target) or self._protected(target)
        except OSError as e:
            fact, fix = _WHY.get(e.errno or 0, (f"cannot be written: {e.strerror}", "give another name"))
            return f"cannot be written: {fact}", fix
        except ValueError:  # a zero byte, or what the file system cannot encode
            return "cannot be a file's name", "give another name"
        return self._existing(target, found)

    def _existing(self, target: Path, found: os.stat_result) -> tuple[str, str] | None:
        if stat.S_ISDIR(found.st_mode):
            return "is a folder", f"name a file in it, for example {KEY}={self.path / ('out' + self.path.suffix)}"
        if not stat.S_ISREG(found.st_mode):
            kind = next((name for matches, name in _KINDS if matches(found.st_mode)), "no file")
            return f"is {kind}, and only files are written", "give the name of a file"
        for called, path in self.inputs.items():
            if _is(found, path):
                return f"is what {called} reads" + _also(self.path, path), "give another name"
        refused = self._protected(target, found)
        if refused is None and not self.overwrite:
            return _EXISTS
        if refused is None and not os.access(target, os.W_OK):
            return "is write-protected", f"give another name, or chmod u+w {shlex.quote(str(target))}"
        return refused or self._in_folder(target)

    def _protected(self, target: Path, found: os.stat_result | None = None) -> tuple[str, str] | None:
        """Refused inside of what is kept, and beside a manifest, which vouches for the files around it."""
        for root in self.kept:
            inside = Path(os.path.realpath(root)) in target.parents
            if inside or (found is not None and found.st_nlink > 1 and _holds(root, found)):
                return f"is a file of {root}" if found else f"would stand in {root}", "give another name"
        if _is_published(target.parent):
            return f"would stand among the published files of {self.path.parent}", "give another folder"
        return None

    def _in_folder(self, target: Path) -> tuple[str, str] | None:
        folder = self.path.parent if self.path.parent.resolve() == target.parent else target.parent
        if not folder.exists():
            return f"cannot be written: there is no folder {folder}", f"mkdir -p {shlex.quote(str(folder))}"
        if not os.access(folder, os.W_OK | os.X_OK):
            fact = f"cannot be written: the folder {folder} is not writable"
            return fact, "choose another folder, or change its permissions"
        return None


def strings(data: Any, where: str = "") -> Iterator[tuple[str, str]]:
    """(path, text) of every text in a configuration: any of them may name a file that is read."""
    if isinstance(data, str):
        yield where, data
    pairs = data.items() if isinstance(data, Mapping) else enumerate(data) if isinstance(data, list | tuple) else ()
    for key, value in pairs:
        yield from strings(value, f"{where}.{key}" if where else str(key))


_EXISTS = ("exists already", "overwrite=true replaces it; or give another name")


def _is(found: os.stat_result, path: Path) -> bool:
    with suppress(OSError, ValueError):  # one that is missing is told by whoever reads it
        other = os.stat(path)
        return (other.st_dev, other.st_ino) == (found.st_dev, found.st_ino)
    return False


def _also(path: Path, other: Path) -> str:
    return "" if str(path) == str(other) else f", {other}"


def _holds(root: Path, found: os.stat_result) -> bool:
    """True where another name of this file stands under `root`: published files are links into the store."""
    return any(_is(found, Path(folder) / name) for folder, _, names in os.walk(root) for name in names)


def _is_published(folder: Path) -> bool:
    """True for a folder with a manifest of ours, as far as its beginning tells."""
    with suppress(OSError), open(folder / MANIFEST, "rb") as file:
        return b'"schema"' in file.read(4096)
    return False
