"""The store's memory between runs, which saves time and gives reasons: JSON that may be gone, damaged or outdated."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from autovoice.store.hashing import value_sha256
from autovoice.store.json_files import read_regular

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
