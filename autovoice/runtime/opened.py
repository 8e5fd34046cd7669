"""One component of a built folder, opened: its engine, or what its policy puts in the engine's place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from autovoice.backends.base import Backend, Session, Shared
from autovoice.backends.registry import backend_from_name
from autovoice.errors import ArtefactError, BuildError, StaleError, TrustError
from autovoice.runtime.folder import BuiltFolder
from autovoice.runtime.manifest import NAME, fallback_in
from autovoice.runtime.trust import Trust
from autovoice.spec import FAIL, REBUILD


@dataclass(frozen=True)
class Opened:
    """What runs; `note` says why it is not the engine that was asked for, None where it is."""

    session: Session
    backend: str
    note: str | None = None


def opened(
    folder: BuiltFolder, component: Mapping[str, Any], shared: Shared, trust: Trust, policy: str | None = None
) -> Opened:
    """The engine, its files' hashes checked; where it does not fit, what the policy says.

    `policy` in place of the manifest's. Raises ArtefactError, of its kinds StaleError where it is to be built again,
    and TrustError for code that is not allowed.
    """
    name, outputs = component["name"], tuple(component["outputs"])
    try:
        return Opened(_session(folder, component, outputs, shared, trust), component["backend"]["name"])
    except TrustError:  # a question to whoever loads it, not a fault of the engine
        raise
    except ArtefactError as e:
        asked = policy or component.get("on_mismatch", {}).get("policy", FAIL)
        why = e.fact.removeprefix(f"{folder.path / component['file']}: ").removeprefix(f"{folder.path}/")
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
        return Opened(_session(folder, fallback, outputs, shared, trust), beside, note)


def _session(
    folder: BuiltFolder, entry: Mapping[str, Any], outputs: tuple[str, ...], shared: Shared, trust: Trust
) -> Session:
    engine = folder.engine(entry)
    engine.check()
    folder.check(entry)
    backend = _backend(folder, entry)
    trust.check(folder, [entry])
    session = backend.session_from_engine(engine, outputs, shared)
    try:
        engine.check_unchanged()
    except ArtefactError:
        session.close()
        raise
    return session


def _backend(folder: BuiltFolder, entry: Mapping[str, Any]) -> Backend:
    try:
        return backend_from_name(entry["backend"]["loader"], entry["backend"]["options"])
    except BuildError as e:  # options that no configuration may have
        raise ArtefactError(f"{folder.path / NAME}: {entry['file']}: {e.fact}", e.fix) from e
