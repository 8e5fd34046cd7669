"""The manifest of a built folder: all that a runtime needs to know, and all that a reader may want to.

A folder holds `manifest.json` and one engine file a component; it can be copied anywhere as it is. `digest` is that
of all the rest of the manifest, by value: another layout of the same JSON is the same manifest.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from autovoice.errors import ArtefactError, brief
from autovoice.runtime.manifest_form import faults
from autovoice.store.hashing import value_sha256
from autovoice.store.json_files import read_json

SCHEMA = 2
NAME = "manifest.json"
DIGEST = "digest"
_REQUIRED = ("pipeline", "dims", "tensors", "inputs", "outputs", "components", "contract", DIGEST)
_AGAIN = "copy the whole folder again, or build it again"


def read_manifest(folder: Path, descriptor: int | None = None) -> dict[str, Any]:
    """The manifest of a built folder, of the open one where a descriptor is given.

    Raises ArtefactError when there is none that this version can read, or it is not as it was written.
    """
    path = folder / NAME
    try:
        data = read_json(path if descriptor is None else NAME, folder=descriptor)
    except FileNotFoundError as e:
        raise ArtefactError(f"{folder}: no {NAME} here", "give a folder that `autovoice` has built") from e
    except OSError as e:
        raise ArtefactError(f"{path}: cannot be read: {e.strerror}", "build it again") from e
    except ValueError as e:
        raise ArtefactError(f"{path}: cannot be read: {e}", "build it again") from e
    if not isinstance(data, dict) or data.get("schema") != SCHEMA:
        got = data.get("schema") if isinstance(data, dict) else None
        fact = f"{path}: schema {brief(repr(got))}, this version reads {SCHEMA}"
        raise ArtefactError(fact, "build it again with this version")
    missing = [k for k in _REQUIRED if k not in data]
    if missing:
        raise ArtefactError(f"{path}: has no '{missing[0]}'", "it was edited or cut short; build it again")
    if data[DIGEST] != digest_of(data):
        raise ArtefactError(f"{path}: was edited or damaged: its content is not what its digest says", _AGAIN)
    for fault in faults(data):
        fact = f"{path}: is not what was written: {brief(fault)}"
        raise ArtefactError(fact, "it was edited or cut short; build it again")
    return data


def sealed(data: Mapping[str, Any]) -> dict[str, Any]:
    """The same with the digest of its content."""
    return {**data, DIGEST: digest_of(data)}


def digest_of(data: Mapping[str, Any]) -> str:
    """The digest of everything but the digest itself."""
    return value_sha256({k: v for k, v in data.items() if k != DIGEST})


def engines_in(data: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The entries of all engines, and of those that stand by in place of one."""
    for component in data["components"]:
        yield component
        fallback = fallback_in(component)
        if fallback is not None:
            yield fallback


def digests_of(engine: Mapping[str, Any]) -> dict[str, str]:
    """Of an engine and what it needs beside it: {file name: sha256}."""
    return {engine["file"]: engine["sha256"], **engine.get("beside", {})}


def files_in(data: Mapping[str, Any]) -> set[str]:
    """The names of all files that belong to a folder beside the manifest."""
    return {name for engine in engines_in(data) for name in digests_of(engine)}


def fallback_in(component: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """What stands beside a component's engine to run in its place; None where nothing does."""
    found: Mapping[str, Any] | None = component.get("on_mismatch", {}).get("fallback")
    return found


def dump(data: Mapping[str, Any]) -> bytes:
    return (json.dumps(data, indent=1, ensure_ascii=False) + "\n").encode()
