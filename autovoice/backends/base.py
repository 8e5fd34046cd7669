"""What a backend is: at most three methods between a lowered ONNX file and answers.

A manifest names a backend by its name alone, and the name is looked up here: among the modules of this package,
then among the entry points of the group `autovoice.backends`. A manifest can therefore not make anyone import
what is not installed as a backend.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping
from importlib.metadata import entry_points
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self, cast

import numpy as np

from autovoice.errors import ArtefactError, ConfigError, Fault, nearest
from autovoice.loaders import GROUP, shipped


class Session(Protocol):
    """A loaded engine. Takes and returns arrays by the component's own names; the caller owns them."""

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]: ...
    def close(self) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Backend(Protocol):
    """Made with the `options` of its YAML."""

    #: file name suffix of an engine
    suffix: str

    def __init__(self, options: Mapping[str, Any]) -> None: ...

    def engine_from_onnx(self, model: Path, engine: Path, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Write `engine`; return {"file": {dtype: nodes}, …}, the precision really delivered.

        Raises BuildError in the tool's own words.
        """
        ...

    def session_from_engine(self, engine: Path, outputs: tuple[str, ...]) -> Session:
        """Load an engine, its outputs in this order. Raises BuildError rather than fall back to anything."""
        ...


def backend_from_target(target: str, options: Mapping[str, Any]) -> Backend:
    """The backend class of a configuration, made."""
    module, _, name = target.rpartition(".")
    try:
        cls = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as e:
        raise ConfigError(
            [Fault("backend._target_", f"'{target}' cannot be imported: {e}", "package.module.Class")]
        ) from e
    return cast(Backend, cls(options))


def session_of(backend: Mapping[str, Any], built: Path, outputs: Iterable[str]) -> Session:
    """The engine in a build's folder, loaded by the backend of the same record."""
    made = backend_from_target(backend["target"], backend["options"])
    return made.session_from_engine(built / f"engine{made.suffix}", tuple(outputs))


def backend_from_name(name: str, options: Mapping[str, Any]) -> Backend:
    """The installed backend of that name, made. Raises ArtefactError when there is none."""
    if name in shipped():
        return cast(Backend, importlib.import_module(f"autovoice.backends.{name}").BACKEND(options))
    plugins = {e.name: e for e in entry_points(group=GROUP)}
    if name not in plugins:
        raise ArtefactError(f"backend '{name}' is not installed here", nearest(name, [*shipped(), *plugins]))
    return cast(Backend, plugins[name].load()(options))
