"""The contents of a published folder, compared with what it is to hold."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autovoice.errors import ArtefactError
from autovoice.publish.account import BuildAccount
from autovoice.runtime.manifest import DIGEST, NAME, files_in, read_manifest
from autovoice.store.artefacts import Record, Store
from autovoice.store.atomic import link_or_copy
from autovoice.store.hashing import file_sha256, uncached_sha256


@dataclass(frozen=True)
class Part:
    """A file of an engine: the build it comes from, its names in the store and in the folder, its sha256."""

    build: Record
    source: str
    file: str
    digest: str


def parts_of(account: BuildAccount) -> Iterator[Part]:
    """Every file of every engine, of those that stand beside another one too."""
    for engine in (e for c in account.components for e in c.engines):
        record = engine.record
        for stored, file in {engine.stored: engine.file, **engine.beside}.items():
            yield Part(record, stored, file, record.files[stored].sha256)


def is_in_place(path: Path, digest: str) -> bool:
    try:
        return stat.S_ISREG(os.lstat(path).st_mode) and file_sha256(path) == digest
    except OSError:
        return False


def place(part: Part, standing: Path | None, store: Store, folder: Path) -> None:
    """Link a file into a folder: the one that stands in the old folder, else that of the store, read once more.

    Raises ArtefactError when the store's own file is not what was built.
    """
    source = standing or store.folder(part.build.key) / part.source
    if standing is None and uncached_sha256(source) != part.digest:
        store.distrust(part.build.key, part.source)
        raise ArtefactError(
            f"{source}: content changed since it was built", "run the same command again: it is rebuilt"
        )
    link_or_copy(source, folder / part.file)


def _same_but_for_time(folder: Path, data: Mapping[str, Any]) -> bool:
    try:
        old = read_manifest(folder)
    except ArtefactError:
        return False
    blank = {"created": "", DIGEST: ""}
    return json.dumps({**old, **blank}) == json.dumps({**data, **blank})


def is_complete(folder: Path, data: Mapping[str, Any], parts: Iterable[Part]) -> bool:
    """True where there is nothing to write."""
    return _same_but_for_time(folder, data) and all(is_in_place(folder / p.file, p.digest) for p in parts)


def written_names(folder: Path) -> set[str]:
    """What a build has written into a folder; of one whose manifest cannot be trusted, the manifest alone."""
    try:
        return {NAME, *files_in(read_manifest(folder))}
    except ArtefactError:
        return {NAME}
