"""The store's memory between runs, which saves time and gives reasons: JSON that may be gone, damaged or outdated."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from autovoice.errors import StoreError
from autovoice.store import hashing
from autovoice.store.atomic import RECORD, write_atomically
from autovoice.store.hashing import value_sha256
from autovoice.store.json_files import read_regular
from autovoice.store.locks import locked

Entry = Mapping[str, Any]


def read_json(path: Path) -> dict[str, Any]:
    """The object in a file; nothing where there is none that can be read."""
    try:
        data = json.loads(read_regular(path))
    except (OSError, ValueError, RecursionError):  # never written, or by something else: memory, not truth
        return {}
    return data if isinstance(data, dict) else {}


def sealed(data: Mapping[str, Any]) -> bytes:
    """JSON that `unsealed` believes: what keys are made from is not to be taken from a file with a flipped bit."""
    return json.dumps({"seal": value_sha256(data), "data": data}).encode()


def unsealed(path: Path) -> dict[str, Any]:
    """What was sealed; nothing where that cannot be read, or is not what was written."""
    held = read_json(path)
    data = held.get("data")
    try:
        whole = isinstance(data, dict) and held.get("seal") == value_sha256(data)
    except RecursionError:  # too deep
        return {}
    return data if whole and isinstance(data, dict) else {}


class Memory:
    """What the store at `root` remembers. Where it cannot be written, that costs time and reasons, nothing else."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def last(self, pipeline: str) -> dict[str, Any]:
        """{step: {key, inputs, seconds}} as last built, or reused, for a pipeline; under "made_as" its other keys."""
        return {s: e for s, e in read_json(self._last(pipeline)).items() if built(e)}

    def last_as(self, entry: Entry, name: str, key: str) -> Entry:
        """An entry of `last` as it was when the step was last made under a name; as it is, where nothing is known.

        `key` is what the step would have now: of that one no more than the key need be known.
        """
        known = str(keys_of(entry).get(name, entry["key"]))
        if known in (key, entry["key"]):
            return {**entry, "key": known}
        made = read_json(artefact_folder(self.root, known) / RECORD)
        return made if built(made) else entry

    def save_last(self, pipeline: str, made: Mapping[str, Entry], names: Mapping[str, str] | None = None) -> None:
        """Remember {step: {key, inputs, seconds}}, each also under its name among `names`, as backend and precision."""
        if not news(self.last(pipeline), made, names or {}):
            return
        # the steps' own errors say more than one of these would
        with suppress(StoreError, OSError), locked(self.root / "locks" / f"last-{pipeline}", self.root):
            before = self.last(pipeline)
            self._write(self._last(pipeline), json.dumps(before | news(before, made, names or {})).encode())

    def load(self, name: str) -> dict[str, Any]:
        """What an earlier run saved under this name; nothing where that is damaged or was never saved."""
        return unsealed(self.root / f"{name}.json")

    def save(self, name: str, data: Mapping[str, Any]) -> None:
        if self.root.is_dir():
            with suppress(OSError):
                self._write(self.root / f"{name}.json", sealed(data))

    def load_hashes(self) -> None:
        hashing.remember(self.load("hashes"))

    def save_hashes(self) -> None:
        known = hashing.learned()
        if known is not None:
            self.save("hashes", {name: entry for name, entry in known.items() if os.path.exists(name)})

    def _last(self, pipeline: str) -> Path:
        return self.root / "last" / f"{pipeline}.json"

    def _write(self, path: Path, content: bytes) -> None:
        write_atomically(path, content, os.stat(self.root).st_mode & 0o666)


def artefact_folder(root: Path, key: str) -> Path:
    return root / "objects" / key[:2] / key


# -- steps as last built ---------------------------------------------------------------------------


def built(data: Any) -> bool:
    """True for what tells how a step was made: {key, inputs, seconds}."""
    match data:
        case {"key": str(), "inputs": dict(inputs), "seconds": int() | float()}:
            return all(isinstance(inputs.get(part, {}), dict) for part in ("fields", "files", "code", "tools"))
    return False


def keys_of(entry: Entry) -> dict[str, str]:
    """{name: key} of an entry; a store of an earlier version has none."""
    made_as = entry.get("made_as")
    return {n: k for n, k in made_as.items() if isinstance(k, str)} if isinstance(made_as, dict) else {}


def news(before: Mapping[str, Entry], made: Mapping[str, Entry], names: Mapping[str, str]) -> dict[str, Entry]:
    """By step, what is to be remembered and is not: each with the keys that it had under other names."""
    found: dict[str, Entry] = {}
    for step, entry in made.items():
        known = before.get(step, {})
        made_as = keys_of(known) | ({names[step]: entry["key"]} if step in names else {})
        if not known or (known["key"], keys_of(known)) != (entry["key"], made_as):
            found[step] = {**entry, "made_as": made_as}
    return found
