"""One component of a built folder, opened: its engine, or what its policy puts in the engine's place."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autovoice.backends.base import Session, Shared, backend_from_name
from autovoice.errors import ArtefactError, StaleError
from autovoice.hashing import uncached_sha256
from autovoice.manifest import fallback_in
from autovoice.spec import FAIL, REBUILD


@dataclass(frozen=True)
class Opened:
    """What runs; `note` says why it is not the engine that was asked for, None where it is."""

    session: Session
    backend: str
    note: str | None = None


def opened(folder: Path, component: Mapping[str, Any], shared: Shared, policy: str | None = None) -> Opened:
    """The engine, its files' hashes checked first; where it does not fit, what the policy says.

    `policy` in place of the manifest's. Raises ArtefactError, of its kinds StaleError where it is to be built again.
    """
    name, outputs = component["name"], tuple(component["outputs"])
    try:
        return Opened(_session(folder, component, outputs, shared), component["backend"]["name"])
    except ArtefactError as e:
        asked = policy or component.get("on_mismatch", {}).get("policy", FAIL)
        why = e.fact.removeprefix(f"{folder / component['file']}: ").removeprefix(f"{folder}/")
        if asked == REBUILD:
            fix = "building takes the configuration: run autovoice with it on this machine, and load what that writes"
            raise StaleError(f"{name}: {why}", fix) from e
        if asked in (FAIL, component["backend"]["name"]):  # nothing stands in for a backend's own
            raise
        fallback = fallback_in(component)
        beside = fallback["backend"]["name"] if fallback is not None else None
        if fallback is None or beside != asked:
            fix = f"this folder holds no {asked} to run in its place; build it with on_mismatch={asked}, or {REBUILD}"
            raise type(e)(f"{name}: {why}", fix) from e
        note = f"{name}: {beside} in place of {component['backend']['name']}: {why}"
        return Opened(_session(folder, fallback, outputs, shared), beside, note)


def _session(folder: Path, engine: Mapping[str, Any], outputs: tuple[str, ...], shared: Shared) -> Session:
    for file, digest in {engine["file"]: engine["sha256"], **engine.get("beside", {})}.items():
        _check_file(folder / file, digest)
    backend = backend_from_name(engine["backend"]["loader"], engine["backend"]["options"])
    return backend.session_from_engine(folder / engine["file"], outputs, shared)


def _check_file(path: Path, built: str) -> None:
    try:
        digest = uncached_sha256(path)
    except OSError as e:
        raise ArtefactError(f"{path}: {e.strerror}", "copy the whole folder, or build it again") from e
    if digest != built:
        with suppress(OSError):
            os.utime(path)  # no longer vouched for by its time: the next build sees the damage and mends it
        raise ArtefactError(
            f"{path}: is not the file that was built (sha256 {digest[:12]}…, manifest {built[:12]}…)",
            "run the build again; it restores the file in its own folder",
        )
