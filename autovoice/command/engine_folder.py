"""The folder that a pipeline's engines are loaded from, found in a fixed order."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

#: the key of the folder that all pipelines share
SHARED = "paths.engines"
OWN = "the build's own"


@dataclass(frozen=True)
class EngineFolder:
    """The folder and the key that names it; `path` None is the build's own. `warnings` tell of what was passed over."""

    path: Path | None
    said_by: str
    warnings: tuple[str, ...] = ()


def engine_folder(
    pipeline: str,
    folders: Mapping[str, Path],
    shared: Path | None,
    is_folder: Callable[[Path], bool] = Path.is_dir,
) -> EngineFolder:
    """The pipeline's own of `folders`, else the shared one, else the build's own; one that does not exist is told."""
    named = ((f"engines.{pipeline}.dir", folders.get(pipeline)), (SHARED, shared))
    warnings: list[str] = []
    for key, path in named:
        if path is None:
            continue
        if is_folder(path):
            return EngineFolder(path, key, tuple(warnings))
        warnings.append(f"{key}: there is no folder '{path}'; the next in order is taken")
    return EngineFolder(None, OWN, tuple(warnings))
