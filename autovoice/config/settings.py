"""Everything of a configuration that is not the model: which task, where to write, how to run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from os.path import expanduser
from pathlib import Path
from typing import Any

from autovoice.config.reader import Reader
from autovoice.config.renamed import renamed
from autovoice.config.task_options import EVERY
from autovoice.errors import ConfigError, Fault, nearest
from autovoice.spec import OBJECTIVES

#: top-level keys that describe the model
_GROUPS = {
    "audio",
    "backend",
    "calibration",
    "component",
    "dims",
    "export",
    "fuse",
    "gate",
    *("on_mismatch", "only_if_faster", "timed"),
    "pipeline",
    "precision",
}


@dataclass(frozen=True)
class Settings:
    """The top level of the configuration, typed."""

    task: str
    targets: tuple[str, ...]
    workers: int
    keep_going: bool
    outputs: Path
    dry_run: bool
    feeds: Path | None
    input: Path | None
    output: Path | None
    overwrite: bool
    folder: Path | None
    trust: tuple[str, ...]
    engine_folders: Mapping[str, Path]
    shared_engines: Path | None
    objectives: tuple[str, ...]


def read_settings(data: Mapping[str, Any], cores: int) -> Settings:
    """Settings out of plain composed data. Raises ConfigError with every fault."""
    faults: list[Fault] = []
    r = Reader(data, "", faults)

    def path(key: str) -> Path | None:
        value = r.take(key, str, None)
        return None if value is None else Path(expanduser(value))

    workers = r.take("workers", int, None)
    if workers is not None and workers < 1:
        r.fault("workers", f"must be at least 1, got {workers}", "workers=null takes one per core, at most 4")
    paths = r.child("paths", "{outputs: outputs}")
    settings = Settings(
        task=r.take("task", str, example="build"),
        targets=r.strings("targets"),
        workers=workers or min(cores, 4),
        keep_going=r.take("keep_going", bool, False),
        outputs=Path(expanduser(paths.take("outputs", str, "outputs"))),
        dry_run=r.take("dry_run", bool, True),
        feeds=path("feeds"),
        input=path("input"),
        output=path("output"),
        overwrite=r.take("overwrite", bool, False),
        folder=path("folder"),
        trust=r.strings("trust"),
        engine_folders=_engine_folders(r),
        shared_engines=_folder(paths, "engines"),
        objectives=r.strings("objectives"),
    )
    _check_renamed(r, paths)
    paths.done()
    for name in (n for n in settings.objectives if n not in OBJECTIVES):
        r.fault("objectives", f"unknown '{name}'", nearest(name, OBJECTIVES))
    known = r.taken | _GROUPS | EVERY
    for key in data.keys() - known:
        # other keys may be the user's own, for interpolation; one that is nearly ours is a typo
        close = get_close_matches(str(key), known, n=1, cutoff=0.75)
        if close:
            r.fault(str(key), f"unknown key '{key}'", f"did you mean '{close[0]}'?")
    if faults:
        raise ConfigError(faults)
    return settings


def _engine_folders(r: Reader) -> dict[str, Path]:
    """By pipeline, where `engines:` names a folder; null and absent nodes name none."""
    found = {}
    for name, node in r.take("engines", dict, {}, "{pipeline: {dir: folder}}").items():
        if node is None:
            continue
        n = Reader(node, r.path(f"engines.{name}"), r.faults, "{dir: folder}")
        folder = _folder(n, "dir")
        n.done()
        if folder is not None:
            found[str(name)] = folder
    return found


def _check_renamed(r: Reader, paths: Reader) -> None:
    """An old key is a fault, with the new one."""
    old = r.data.get("tensorrt")
    keys = [f"tensorrt.{name}.engine_dir" for name in old] if isinstance(old, dict) and old else ["tensorrt"]
    found = keys if "tensorrt" in r.data else []
    if "tensorrt_engines" in paths.data:
        paths.taken.add("tensorrt_engines")
        found = [*found, paths.path("tensorrt_engines")]
    r.faults += [fault for key in found if (fault := renamed(key)) is not None]


def _folder(r: Reader, key: str) -> Path | None:
    """An empty name is none."""
    text = r.take(key, str, "").strip()
    return Path(expanduser(text)) if text else None
