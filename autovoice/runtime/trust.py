"""Consent to run an engine's code: modules are named before any of them is imported."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from autovoice.backends.engine import RunsCode
from autovoice.backends.registry import backend_from_name
from autovoice.errors import ArtefactError, BuildError, TrustError
from autovoice.runtime.folder import BuiltFolder

#: an engine by its content, whatever it runs
_BY_DIGEST = "sha256:"


class Trust:
    """`allowed` are modules and packages, each with all inside it, names of engines, or `sha256:` and a digest."""

    def __init__(self, allowed: Iterable[str]) -> None:
        self._allowed = {allowed} if isinstance(allowed, str) else set(allowed)

    def check(self, folder: BuiltFolder, engines: Iterable[Mapping[str, Any]]) -> None:
        """Raises TrustError for what engines would run and is not allowed; imports nothing of it."""
        asked = {e["file"]: missing for e in engines if (missing := self._missing(folder, e))}
        if asked:
            every = list(dict.fromkeys(name for missing in asked.values() for name in missing))
            raise TrustError(
                f"{folder.path}: loading {', '.join(asked)} runs code of {', '.join(every)}",
                f"if you trust it: Pipeline.load(folder, trust={every!r}), or trust=[{','.join(every)}] "
                "on the command line; a package allows all that is in it",
            )

    def _missing(self, folder: BuiltFolder, engine: Mapping[str, Any]) -> list[str]:
        if f"{_BY_DIGEST}{engine['sha256']}" in self._allowed:
            return []
        return [name for name in _code_in(folder, engine) if not self._allows(name)]

    def _allows(self, name: str) -> bool:
        return any(name == one or name.startswith(f"{one}.") for one in self._allowed)


def digest_trust(digest: str) -> str:
    """What allows one engine, by its content."""
    return f"{_BY_DIGEST}{digest}"


def _code_in(folder: BuiltFolder, engine: Mapping[str, Any]) -> tuple[str, ...]:
    """Nothing for an engine that cannot be read or loaded here: whoever loads it says why."""
    try:
        backend = backend_from_name(engine["backend"]["loader"], engine["backend"]["options"])
        return backend.code_in(folder.engine(engine)) if isinstance(backend, RunsCode) else ()
    except (ArtefactError, BuildError):
        return ()
