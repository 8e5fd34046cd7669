"""The class of a backend, by what names it.

A manifest names a backend by its name alone, and the name is looked up here: among the modules of this package,
then among the entry points of the group `autovoice.backends`. A manifest can therefore not make anyone import
what is not installed as a backend; what an engine itself would import is for its reader to allow (`RunsCode`).
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import Any, cast

from autovoice.backends.base import Backend
from autovoice.errors import ArtefactError, ConfigError, Fault, nearest
from autovoice.spec.registry import GROUP, MODULE, shipped


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


def backend_from_name(name: str, options: Mapping[str, Any]) -> Backend:
    """The installed backend of that name, made. Raises ArtefactError when there is none."""
    if name in shipped():
        try:
            module = importlib.import_module(f"{GROUP}.{name}.{MODULE}")
        except ImportError as e:  # its tool is not installed
            fix = "autovoice task=doctor says what adds it"
            raise ArtefactError(f"backend '{name}' cannot run here: {e}", fix) from e
        return cast(Backend, module.BACKEND(options))
    plugins = {e.name: e for e in entry_points(group=GROUP)}
    if name not in plugins:
        raise ArtefactError(f"backend '{name}' is not installed here", nearest(name, [*shipped(), *plugins]))
    try:
        made = plugins[name].load()
    except (ImportError, AttributeError) as e:
        raise ArtefactError(f"backend '{name}' cannot run here: {e}", f"{plugins[name].value} provides it") from e
    return cast(Backend, made(options))
