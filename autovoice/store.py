"""Content-addressed results of steps.

    store/objects/ab/abcd…/   one step's files and its record.json, complete or absent, never changed
    store/tmp/                where steps write before the rename
    store/locks/              one lock file a key
    store/last/               the record last built, by pipeline and step: what `explain` compares with
    store/logs/               one log a step
    store/hashes.json         digests of files by (path, size, mtime, inode)
  store/imports.json        what each module of the user's own code imports, by digest

An artefact counts only when every file its record names has the size and digest it was committed with.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import sys
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from autovoice import hashing, sources
from autovoice.errors import StoreError
from autovoice.files import RECORD, write_atomically


@dataclass(frozen=True)
class StoredFile:
    """A file of an artefact, with what identifies it cheaply (stat) and truly (digest)."""

    sha256: str
    size: int
    mtime_ns: int


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

    def folder(self, key: str) -> Path:
        return self.root / "objects" / key[:2] / key

    def prepare(self) -> None:
        """Make the store usable. Raises StoreError where it cannot be written."""
        try:
            for name in ("objects", "tmp", "locks", "last", "logs"):
                (self.root / name).mkdir(parents=True, exist_ok=True)
            probe = self.root / "tmp" / f".probe-{uuid.uuid4().hex}"
            probe.touch()
            probe.unlink()
        except OSError as e:
            raise store_error(self.root, e) from e

    # -- reading ----------------------------------------------------------------------------------

    def record(self, key: str) -> Record | None:
        """The record of a complete, unchanged artefact; None when there is none to trust."""
        try:
            data = json.loads((self.folder(key) / RECORD).read_bytes())
            files = {n: StoredFile(**f) for n, f in data.pop("files").items()}
            record = Record(files=files, **data)
        except (OSError, ValueError, TypeError, KeyError, AttributeError):  # absent, or not JSON of this form
            return None
        whole = record.key == key and all(self._intact(key, n, f) for n, f in files.items())
        return record if whole else None

    def damaged(self, key: str) -> bool:
        """True when an artefact is there and is not what was committed."""
        return self.folder(key).exists() and self.record(key) is None

    def _intact(self, key: str, name: str, file: StoredFile) -> bool:
        path = self.folder(key) / name
        try:
            stat = path.stat()
            if stat.st_size != file.size:
                return False
            return stat.st_mtime_ns == file.mtime_ns or hashing.file_sha256(path) == file.sha256
        except OSError:
            return False

    # -- writing ----------------------------------------------------------------------------------

    @contextmanager
    def lock(self, key: str) -> Iterator[None]:
        """Hold a key; other processes wait. The kernel lets go when a holder dies."""
        try:
            fd = os.open(self.root / "locks" / key, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as e:
            raise store_error(self.root, e) from e
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)

    @contextmanager
    def in_use(self, alone: bool = False) -> Iterator[None]:
        """Hold the store: builders share it, whoever removes artefacts wants it `alone` and waits, saying so."""
        mode = fcntl.LOCK_EX if alone else fcntl.LOCK_SH
        try:
            fd = os.open(self.root / "locks" / "in_use", os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as e:
            raise store_error(self.root, e) from e
        try:
            try:
                fcntl.flock(fd, mode | fcntl.LOCK_NB)
            except BlockingIOError:
                print(f"waiting for {'builds in' if alone else 'gc of'} {self.root}", file=sys.stderr, flush=True)
                fcntl.flock(fd, mode)
            yield
        finally:
            os.close(fd)

    def workplace(self, key: str) -> Path:
        """A fresh folder to write into; leftovers of a dead step of the same key go first (hold the lock)."""
        self.sweep_tmp(key)
        folder = self.root / "tmp" / f"{key}-{uuid.uuid4().hex[:8]}"
        try:
            folder.mkdir(parents=True)
        except OSError as e:
            raise store_error(self.root, e) from e
        return folder

    def sweep_abandoned(self, key: str) -> None:
        """Remove what a step of this key left half-written, unless someone, here or elsewhere, is writing it now."""
        with suppress(OSError), open(self.root / "locks" / key, "ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
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
            for path in sorted(p for p in work.rglob("*") if p.is_file()):
                os.chmod(path, 0o444)  # hard links of it stand in output folders: guard against edits in place
                _fsync(path)
                stat = path.stat()
                digest = hashing.file_sha256(path)
                files[str(path.relative_to(work))] = StoredFile(digest, stat.st_size, stat.st_mtime_ns)
            record = Record(key, inputs, result, files, round(seconds, 3))
            (work / RECORD).write_bytes(json.dumps(asdict(record), indent=1).encode())
            _fsync(work / RECORD)
            _fsync(work)
            final = self.folder(key)
            final.parent.mkdir(parents=True, exist_ok=True)
            if final.exists():  # damaged: `record` refused it
                shutil.rmtree(final)
            os.rename(work, final)
            _fsync(final.parent)
        except OSError as e:
            raise store_error(self.root, e) from e
        return record

    # -- memory between runs ----------------------------------------------------------------------

    def last(self, pipeline: str) -> dict[str, Any]:
        """{step: {key, inputs, seconds}} as last built, or reused, for a pipeline; under "made_as" its other keys."""
        known = _read_json(self.root / "last" / f"{pipeline}.json")
        return {s: e for s, e in known.items() if isinstance(e, dict) and {"key", "inputs", "seconds"} <= e.keys()}

    def last_as(self, entry: Mapping[str, Any], name: str, key: str) -> Mapping[str, Any]:
        """An entry of `last` as it was when the step was last made under a name; as it is, where nothing is known.

        `key` is what the step would have now: of that one no more than the key need be known.
        """
        known = _keys(entry).get(name, entry["key"])
        if known in (key, entry["key"]):
            return {**entry, "key": known}
        made = _read_json(self.folder(known) / RECORD)
        return made if {"key", "inputs", "seconds"} <= made.keys() else entry

    def save_last(self, pipeline: str, records: Mapping[str, Record], names: Mapping[str, str] | None = None) -> None:
        """Remember what was built, of each step also under its name among `names`, as its backend and precision."""
        path, names = self.root / "last" / f"{pipeline}.json", names or {}
        with self.lock(f"last-{pipeline}"):
            before = self.last(pipeline)
            now = {s: _entry(r, _keys(before.get(s, {})), names.get(s)) for s, r in records.items()}
            new = {s: e for s, e in now.items() if s not in before or not _same(before[s], e)}
            if not new:
                return
            with suppress(OSError):  # only memory: on a full disk the steps' own errors say more
                write_atomically(path, json.dumps(before | new).encode())

    def load_hashes(self) -> None:
        known = _read_json(self.root / "hashes.json")
        hashing.remember({name: e for name, e in known.items() if isinstance(e, list) and len(e) == 2})
        sources.remember(_read_json(self.root / "imports.json"))

    def save_hashes(self) -> None:
        known, imports = hashing.learned(), sources.learned()
        if not self.root.is_dir():
            return
        with suppress(OSError):  # only a cache: a read-only store costs time, nothing else
            if known is not None:
                alive = {name: entry for name, entry in known.items() if os.path.exists(name)}
                write_atomically(self.root / "hashes.json", json.dumps(alive).encode())
            if imports is not None:
                write_atomically(self.root / "imports.json", json.dumps(imports).encode())


def _entry(record: Record, keys: Mapping[str, str], name: str | None) -> dict[str, Any]:
    """What is remembered of a step, beside the keys that it had under other names."""
    made_as = {**keys, name: record.key} if name else dict(keys)
    return {"key": record.key, "inputs": record.inputs, "seconds": record.seconds, "made_as": made_as}


def _keys(entry: Mapping[str, Any]) -> dict[str, str]:
    """{name: key} of an entry; a store of an earlier version has none."""
    made_as = entry.get("made_as")
    return {n: k for n, k in made_as.items() if isinstance(k, str)} if isinstance(made_as, dict) else {}


def _same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return one["key"] == other["key"] and _keys(one) == _keys(other)


def _fsync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_bytes())
    except (OSError, ValueError):  # never written, or by something else: memory, not truth
        return {}
    return data if isinstance(data, dict) else {}


def store_error(root: Path, error: OSError) -> StoreError:
    return unwritable(f"store {root}", error, "build elsewhere: paths.outputs=/another/folder")


def unwritable(place: str, error: OSError, elsewhere: str) -> StoreError:
    """Why nothing can be written at a place, in plain words where the reason is a usual one."""
    reasons = {
        errno.ENOSPC: "the disk is full",
        errno.EDQUOT: "the disk quota is used up",
        errno.EROFS: "the file system is read-only",
        errno.EACCES: "no permission to write",
        errno.ENOTDIR: "a file stands where a folder should be",
        errno.EEXIST: "a file stands where a folder should be",
    }
    why = reasons.get(error.errno or 0, error.strerror or str(error))
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    return StoreError(f"{place}: {why}", ("free some space (autovoice task=gc), or " if full else "") + elsewhere)
