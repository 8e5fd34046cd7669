"""Content-addressed results of steps.

    store/objects/ab/abcd…/   one step's files and its record.json, complete or absent, never changed
    store/tmp/                where steps write before the rename
    store/locks/              one lock file a key
    store/last/               the record last built, by pipeline and step: what `explain` compares with
    store/logs/               one log a step
    store/hashes.json         digests of files, each with what changes when the file does
    store/imports.json        what each module of the user's own code imports, by digest

An artefact counts only when its record is as it was written, and every file that it names has the size and digest
that it was committed with. Whatever is
made here is open to whom the store's own folder is open to.
"""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from autovoice.errors import StoreError, unwritable
from autovoice.store import hashing
from autovoice.store.atomic import RECORD, make_folder, share, sweep_parts
from autovoice.store.hashing import value_sha256
from autovoice.store.json_files import read_regular
from autovoice.store.locks import UNWRITABLE, locked, shared
from autovoice.store.memory import Memory, artefact_folder

_PROBE = ".probe-"
_FOLDERS = ("objects", "tmp", "locks", "last", "logs")


@dataclass(frozen=True)
class StoredFile:
    """A file of an artefact, with what identifies it cheaply (stat) and truly (digest)."""

    sha256: str
    size: int
    mtime_ns: int
    ctime_ns: int = 0


@dataclass(frozen=True)
class Record:
    """What a finished step was made of, what it said, and its files."""

    key: str
    inputs: Mapping[str, Any]
    result: Mapping[str, Any]
    files: Mapping[str, StoredFile]
    seconds: float


class Store:
    """A folder of artefacts by key. Several builders may use it at once."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        #: what saves time and changes no result, as timings of a builder
        self.caches = self.root / "caches"
        self.memory = Memory(self.root)

    def folder(self, key: str) -> Path:
        return artefact_folder(self.root, key)

    def prepare(self) -> None:
        """Make the store usable. Raises StoreError where it cannot be written."""
        try:
            for name in _FOLDERS:
                make_folder(self.root / name)
            for folder in (self.root, self.root / "last"):
                sweep_parts(folder)
            for left in (self.root / "tmp").glob(f"{_PROBE}*"):  # of a process that was killed right here
                left.unlink(missing_ok=True)
            probe = self.root / "tmp" / f"{_PROBE}{uuid.uuid4().hex}"
            probe.touch()
            probe.unlink(missing_ok=True)
        except OSError as e:
            raise store_error(self.root, e) from e

    # -- reading ----------------------------------------------------------------------------------

    def record(self, key: str) -> Record | None:
        """The record of a complete, unchanged artefact; None when there is none to trust."""
        record = self.written(key)
        whole = record is not None and all(self._intact(key, n, f) for n, f in record.files.items())
        return record if whole else None

    def written(self, key: str) -> Record | None:
        """The record of an artefact, its files not looked at; None when there is none."""
        try:
            data = json.loads(read_regular(self.folder(key) / RECORD))
            if data.pop("digest") != value_sha256(data):
                return None
            files = {n: StoredFile(**f) for n, f in data.pop("files").items()}
            record = Record(files=files, **data)
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):  # absent, or no such JSON
            return None
        whole = _of_form(record.inputs) and isinstance(record.result, dict)
        return record if whole and record.key == key else None

    def damaged(self, key: str) -> bool:
        """True when an artefact is there and is not what was committed."""
        return self.folder(key).exists() and self.record(key) is None

    def _intact(self, key: str, name: str, file: StoredFile) -> bool:
        path = self.folder(key) / name
        try:
            stat = path.stat()
            if stat.st_size != file.size:
                return False
            untouched = (stat.st_mtime_ns, stat.st_ctime_ns) == (file.mtime_ns, file.ctime_ns)
            return (untouched and not hashing.coarse(stat)) or hashing.file_sha256(path) == file.sha256
        except OSError:
            return False

    def distrust(self, key: str, name: str) -> None:
        """Have the next plan see that a file of an artefact, unchanged by its times, is damaged."""
        try:
            os.utime(self.folder(key) / name)
        except OSError:  # another user's file: without its record the whole artefact is nothing
            with suppress(OSError):
                (self.folder(key) / RECORD).unlink()

    # -- writing ----------------------------------------------------------------------------------

    @contextmanager
    def lock(self, key: str) -> Iterator[None]:
        """Hold a key; other processes wait. The kernel lets go when a holder dies."""
        with self._entered(locked(self.root / "locks" / key, self.root)):
            yield

    @contextmanager
    def in_use(self, alone: bool = False) -> Iterator[None]:
        """Hold the store: builders share it, whoever removes artefacts wants it `alone` and waits, saying so.

        Where nothing can be written, and no one ever has held it, there is nothing to hold: reading needs no more.
        """
        waiting = f"waiting for {'builds in' if alone else 'gc of'} {self.root}"
        with ExitStack() as held:
            try:
                if not (self.root / "locks").is_dir():
                    self.prepare()
                lock = shared(self.root / "locks" / "in_use", self.root, alone, waiting)
                held.enter_context(self._entered(lock))
            except StoreError as e:
                if alone or not self.root.is_dir() or getattr(e.__cause__, "errno", None) not in UNWRITABLE:
                    raise
            yield

    @contextmanager
    def _entered(self, lock: AbstractContextManager[None]) -> Iterator[None]:
        """A lock, what keeps it from being held told as the store's error."""
        with ExitStack() as held:
            try:
                held.enter_context(lock)
            except OSError as e:
                raise store_error(self.root, e) from e
            yield

    def workplace(self, key: str) -> Path:
        """A fresh folder to write into; leftovers of a dead step of the same key go first (hold the lock)."""
        self.sweep_tmp(key)
        folder = self.root / "tmp" / f"{key}-{uuid.uuid4().hex[:8]}"
        try:
            make_folder(folder)
        except OSError as e:
            raise store_error(self.root, e) from e
        return folder

    def sweep_abandoned(self, key: str) -> None:
        """Remove what a step of this key left half-written, unless someone, here or elsewhere, is writing it now."""
        with suppress(OSError), locked(self.root / "locks" / key, self.root, wait=False):
            self.sweep_tmp(key)

    def sweep_tmp(self, key: str) -> None:
        """Remove what was written for this key (hold the lock)."""
        for left in (self.root / "tmp").glob(f"{key}-*"):
            shutil.rmtree(left, ignore_errors=True)

    def commit(
        self, key: str, work: Path, inputs: Mapping[str, Any], result: Mapping[str, Any], seconds: float
    ) -> Record:
        """Make `work` the artefact of `key`: all of it durable first, then one rename (hold the lock)."""
        try:
            files = {}
            for folder in (p for p in work.rglob("*") if p.is_dir()):
                share(folder, self.root)
            for path in sorted(p for p in work.rglob("*") if p.is_file()):
                os.chmod(path, 0o444)  # hard links of it stand in output folders: guard against edits in place
                _fsync(path)
                digest, stat = hashing.uncached_sha256(path), path.stat()
                stored = StoredFile(digest, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)
                files[str(path.relative_to(work))] = stored
            record = Record(key, inputs, result, files, round(seconds, 3))
            data = json.loads(json.dumps(asdict(record)))  # as it will be read
            (work / RECORD).write_bytes(json.dumps(data | {"digest": value_sha256(data)}, indent=1).encode())
            share(work / RECORD, self.root)
            _fsync(work / RECORD)
            _fsync(work)
            final = self.folder(key)
            make_folder(final.parent)
            if final.exists():  # damaged: `record` refused it
                shutil.rmtree(final)
            os.rename(work, final)
            _fsync(final.parent)
        except OSError as e:
            raise store_error(self.root, e) from e
        return record


def _of_form(inputs: Any) -> bool:
    """True for what a step's inputs are: mappings by name."""
    return isinstance(inputs, dict) and all(
        isinstance(inputs.get(part, {}), dict) for part in ("fields", "needs", "files", "code", "tools")
    )


def _fsync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def store_error(root: Path, error: OSError) -> StoreError:
    return unwritable(f"store {root}", error, "build elsewhere: paths.outputs=/another/folder")
