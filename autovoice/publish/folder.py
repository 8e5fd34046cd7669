"""The plain folder of a build: engines under their own names, and the manifest."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from autovoice.errors import StoreError
from autovoice.publish.account import BuildAccount
from autovoice.publish.contents import is_complete, is_in_place, parts_of, place, written_names
from autovoice.publish.manifest import manifest_of
from autovoice.runtime.manifest import NAME, dump
from autovoice.store.artefacts import Store
from autovoice.store.atomic import parts_in, sweep_parts, write_atomically
from autovoice.store.switch import replacing, sweep


def publish(account: BuildAccount, store: Store, folder: Path, overrides: Sequence[str]) -> list[str]:
    """Make `folder` hold exactly this build; returns what had to be written, nothing when all was in place.

    A new folder takes the old one's place as a whole: a reader has one build or the other, and so has whoever comes
    after a process that was killed. Files that no build wrote stay.
    """
    data, parts = manifest_of(account, overrides), list(parts_of(account))
    lock = f"folder-{folder.parent.name}-{folder.name}"
    folder = folder.resolve() if folder.is_symlink() else folder
    if is_complete(folder, data, parts) and not parts_in(folder.parent, folder.name):
        return []  # a folder that cannot be written will do
    try:
        with store.lock(lock):
            if is_complete(folder, data, parts):  # by now, or there is but something to take up
                sweep(folder, written_names)
                return []
            sweep_parts(folder)
            absent = [p.file for p in parts if not is_in_place(folder / p.file, p.digest)]
            with replacing(folder, written_names) as new:
                write_atomically(new / NAME, dump(data))  # first: it tells its files from the user's
                for part in parts:
                    place(part, None if part.file in absent else folder / part.file, store, new)
    except OSError as e:
        raise StoreError(f"{folder}: {e.strerror or e}", "paths.outputs=/another/folder") from e
    return [*absent, NAME]
