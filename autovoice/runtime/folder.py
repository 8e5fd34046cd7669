"""A built folder, opened: its manifest and the files that belong to it, all of one build."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autovoice.errors import ArtefactError
from autovoice.runtime.manifest import digests_of, engines_in, read_manifest
from autovoice.runtime.verified_files import VerifiedFile, open_files
from autovoice.store.atomic import parts_in

#: how often a folder that is switched under a reader is read again, and how long a rename is waited for
_TRIES = 100
_PAUSE = 0.01


@dataclass(frozen=True)
class BuiltFolder:
    """`files` are those of each engine of the manifest, by the name of the engine's own file."""

    path: Path
    manifest: Mapping[str, Any]
    files: Mapping[str, Mapping[str, VerifiedFile]]

    def engine(self, entry: Mapping[str, Any]) -> VerifiedFile:
        return self.files[entry["file"]][entry["file"]]

    def check(self, entry: Mapping[str, Any]) -> None:
        """Raises ArtefactError where a file beside an engine is not what the manifest says."""
        for name, file in self.files[entry["file"]].items():
            if name != entry["file"]:
                file.check()

    @property
    def missing(self) -> bool:
        return any(f.missing for files in self.files.values() for f in files.values())

    def close(self) -> None:
        for files in self.files.values():
            for file in files.values():
                file.close()


@contextmanager
def opened_folder(path: Path) -> Iterator[BuiltFolder]:
    """What stands at `path`, held open. Raises ArtefactError where that is no built folder.

    A build that is published meanwhile takes the folder's place as a whole; what was read of the old one is then
    given up for the new one.
    """
    folder = _opened(path)
    try:
        yield folder
    finally:
        folder.close()


def _opened(path: Path) -> BuiltFolder:
    for left in reversed(range(_TRIES)):
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as e:
            if left and isinstance(e, FileNotFoundError) and _is_switched(path):
                time.sleep(_PAUSE)
                continue
            raise _no_folder(path, e) from e
        try:
            folder = _read(path, descriptor)
            if not folder.missing or not left or _is_same(path, descriptor):
                return folder
            folder.close()
        except ArtefactError:
            if not left or _is_same(path, descriptor):
                raise
        finally:
            os.close(descriptor)
    raise AssertionError("the last try returns or raises")


def _read(path: Path, descriptor: int) -> BuiltFolder:
    manifest = read_manifest(path, descriptor)
    files = {e["file"]: open_files(path, descriptor, digests_of(e)) for e in engines_in(manifest)}
    return BuiltFolder(path, manifest, files)


def _is_same(path: Path, descriptor: int) -> bool:
    """Whether the folder that was opened still stands at its path."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return not _is_switched(path)
    except OSError:
        return True


def _is_switched(path: Path) -> bool:
    """Whether the folder may come back at once: where two cannot be exchanged, one makes way for the other."""
    real = Path(os.path.realpath(path))
    return bool(parts_in(real.parent, real.name))


def _no_folder(path: Path, error: OSError) -> ArtefactError:
    if isinstance(error, FileNotFoundError):
        return ArtefactError(f"{path}: no manifest.json here", "give a folder that `autovoice` has built")
    return ArtefactError(f"{path}: {error.strerror}", "give a folder that `autovoice` has built")
