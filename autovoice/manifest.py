"""The manifest of a built folder: all that a runtime needs to know, and all that a reader may want to.

A folder holds `manifest.json` and one engine file a component; it can be copied anywhere as it is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from autovoice.errors import ArtefactError

SCHEMA = 1
NAME = "manifest.json"
_PLAIN_FILE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_REQUIRED = ("pipeline", "dims", "tensors", "inputs", "outputs", "components", "contract")


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a built folder. Raises ArtefactError when there is none that this version can read."""
    path = folder / NAME
    try:
        data = json.loads(path.read_bytes())
    except FileNotFoundError as e:
        raise ArtefactError(f"{folder}: no {NAME} here", "give a folder that `autovoice` has built") from e
    except (OSError, ValueError) as e:
        raise ArtefactError(f"{path}: cannot be read: {e}", "build it again") from e
    if not isinstance(data, dict) or data.get("schema") != SCHEMA:
        got = data.get("schema") if isinstance(data, dict) else None
        raise ArtefactError(f"{path}: schema {got}, this version reads {SCHEMA}", "build it again with this version")
    missing = [k for k in _REQUIRED if k not in data]
    if missing:
        raise ArtefactError(f"{path}: has no '{missing[0]}'", "it was edited or cut short; build it again")
    try:
        files = files_in(data)
    except (TypeError, KeyError, AttributeError) as e:
        raise ArtefactError(
            f"{path}: its components are not what was written", "it was edited or cut short; build it again"
        ) from e
    for file in files:
        if not isinstance(file, str) or not _PLAIN_FILE.fullmatch(file):
            raise ArtefactError(f"{path}: file '{file}' is not a plain name in this folder", "build it again")
    return data


def files_in(data: Mapping[str, Any]) -> set[str]:
    """The names of all files that belong to a folder beside the manifest."""
    engines = [*data["components"], *(f for c in data["components"] if (f := fallback_in(c)) is not None)]
    return {e["file"] for e in engines} | {name for e in engines for name in e.get("beside", {})}


def fallback_in(component: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """What stands beside a component's engine to run in its place; None where nothing does."""
    found: Mapping[str, Any] | None = component.get("on_mismatch", {}).get("fallback")
    return found


def dump(data: Mapping[str, Any]) -> bytes:
    return (json.dumps(data, indent=1, ensure_ascii=False) + "\n").encode()
