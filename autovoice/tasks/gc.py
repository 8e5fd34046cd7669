"""`task=gc`: remove from the store what no manifest refers to. A dry run unless `dry_run=false`."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from autovoice.command.invocation import Invocation
from autovoice.errors import ArtefactError
from autovoice.publish.contents import written_names
from autovoice.runtime.manifest import NAME, read_manifest
from autovoice.store.artefacts import Store, store_error
from autovoice.store.atomic import is_part, left_in
from autovoice.store.switch import remove_left
from autovoice.terminal.escape import say
from autovoice.terminal.table import megabytes


def run(invocation: Invocation) -> int:
    outputs, dry = invocation.settings.outputs, invocation.settings.dry_run
    store = invocation.store
    if not store.root.is_dir():
        say(f"{store.root}: no store, nothing to remove")
        return 0
    if not dry:
        store.prepare()
    with store.in_use(alone=not dry):  # listing takes no more than reading
        kept = keys_in_use(outputs)
        garbage = [*_unused(store, kept), *_leftovers(store), *_parts(outputs, store)]
        size = sum(_size(path) for path in garbage)
        for path in garbage:
            told = f"{os.path.relpath(path, store.root)}  {megabytes(_size(path))}"
            if not dry:
                _remove(path, store)
            say(f" {'would remove' if dry else 'removed'} {told}")
    verb = "would be freed; autovoice task=gc dry_run=false removes it" if dry else "freed"
    say(f"{len(garbage)} entries, {megabytes(size)} {verb}; {len(kept)} steps in use by manifests under {outputs}")
    return 0


def keys_in_use(outputs: Path) -> set[str]:
    """Every key that a manifest below `outputs` names. Raises ArtefactError rather than skip one it cannot read."""
    kept: set[str] = set()
    for path in outputs.glob(f"*/*/{NAME}"):
        if path.parent.name.startswith("."):  # left by a build that was killed, for the next one to take up
            continue
        manifest = read_manifest(path.parent)
        if "steps" not in manifest:
            raise ArtefactError(f"{path}: names no steps", "remove that folder, or build it again")
        kept |= set(manifest["steps"].values())
    return kept


def _unused(store: Store, kept: set[str]) -> list[Path]:
    return sorted(p for p in (store.root / "objects").glob("*/*") if p.name not in kept)


def _leftovers(store: Store) -> list[Path]:
    """Half-written folders of dead steps, all logs but each step's newest, and locks: no one holds the store."""
    logs: dict[str, list[Path]] = {}
    for path in sorted((store.root / "logs").glob("*.log"), key=lambda p: p.stat().st_mtime):
        logs.setdefault(path.name.split("-")[0], []).append(path)
    old = [p for paths in logs.values() for p in paths[:-1]]
    locks = [p for p in (store.root / "locks").glob("*") if p.name != "in_use"]
    return [*sorted((store.root / "tmp").glob("*")), *old, *sorted(locks)]


def _parts(outputs: Path, store: Store) -> list[Path]:
    """What killed builders left half-written beside the files and folders that it was to become."""
    folders = [store.root, store.root / "last", outputs, *outputs.glob("*/"), *outputs.glob("*/*/")]
    return [part for folder in dict.fromkeys(folders) for part in left_in(folder)]


def _remove(path: Path, store: Store) -> None:
    """A folder that another one took the place of may hold files of the user's, which come back."""
    try:
        if path.is_dir() and is_part(path):
            remove_left(path, written_names)
            return
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    except OSError as e:
        raise store_error(store.root, e) from e


def _size(path: Path) -> int:
    """Bytes that removing `path` frees: files that an output folder links stay on the disk."""
    files = [path] if path.is_file() else [f for f in path.rglob("*") if f.is_file()]
    return sum(s.st_size for s in map(os.stat, files) if s.st_nlink == 1)
