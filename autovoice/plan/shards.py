"""Weights in several files: an index (`model.safetensors.index.json`) that says which name lies in which of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from autovoice.errors import CheckpointError, choices

#: an index is short; what is longer is something else
_LONGEST = 1 << 26


def is_index(path: Path) -> bool:
    """True for a file of JSON, which no file of weights is."""
    try:
        if not path.is_file():
            return False
        with open(path, "rb") as file:
            start = file.read(64)
    except OSError:
        return False
    return start.lstrip()[:1] == b"{" and b"\0" not in start


def shards_of(path: Path) -> dict[str, Path]:
    """The files that an index names, by name, all beside it; empty for a file that is no index.

    Raises CheckpointError for an index that cannot be read, or names files elsewhere or that are not there.
    """
    if not is_index(path):
        return {}
    found = {name: path.parent / name for name in dict.fromkeys(weight_map(path).values())}
    absent = [name for name, file in found.items() if not file.is_file()]
    if absent:
        fact = f"'{path}' names {len(found)} files, of which {len(absent)} are not there: {_first(absent)}"
        raise CheckpointError(fact, f"fetch them into {path.parent} too")
    return found


def weight_map(path: Path) -> Mapping[str, str]:
    """{name of a weight: name of its file}. Raises CheckpointError."""
    try:
        if path.stat().st_size > _LONGEST:
            raise ValueError("it is too long for one")
        data = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as e:
        raise CheckpointError(f"'{path}' is no index of weights: {e}", _FIX) from e
    names = data.get("weight_map") if isinstance(data, dict) else None
    if not isinstance(names, dict) or not names:
        keys = f", has {choices(data)}" if isinstance(data, dict) and len(data) < 20 else ""
        raise CheckpointError(f"'{path}' is JSON without a `weight_map`{keys}", _FIX)
    for file in names.values():
        if not isinstance(file, str) or not _confined(file):
            fact = f"'{path}' places weights in {file!r}, which does not lie below its folder"
            raise CheckpointError(fact, "an index names files beside it; they are never read elsewhere")
    return names


_FIX = "the index of a model in several files, as model.safetensors.index.json, or the file of weights itself"


def _confined(name: str) -> bool:
    """Below the folder by its name; what the name links to is the user's own."""
    path = Path(name)
    return bool(path.parts) and not path.is_absolute() and ".." not in path.parts and "\0" not in name


def check_shard(path: Path, file: str, placed: Mapping[str, str], held: Mapping[str, object]) -> None:
    """Raise CheckpointError unless `file` holds what the index places there, and nothing else."""
    wanted = {name for name, where in placed.items() if where == file}
    absent, other = sorted(wanted - held.keys()), sorted(held.keys() - wanted)
    if absent or other:
        what = f"lacks {_first(absent)}" if absent else f"also holds {_first(other)}"
        fact = f"'{path.parent / file}' {what}: '{path.name}' says otherwise"
        raise CheckpointError(fact, "index and files are of different models: fetch all of them again")


def _first(names: list[str], count: int = 3) -> str:
    return ", ".join(names[:count]) + (f", … {len(names) - count} more" if len(names) > count else "")
