"""Files and folders that a configuration's arguments name: what a step's code reads from there counts by content.

An argument of whatever is called by `_target_` is only text here. Text that names a file or a folder, as seen from the
folder of the command, is taken to mean it: at worst, a step runs again for a file that it does not read.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

from autovoice.config.paths import located
from autovoice.errors import AutovoiceError

#: files of one folder that are counted one by one, no more
MOST_FILES = 10_000
#: what is written beside the files that somebody reads
_NOT_READ = {".git", "__pycache__"}
#: signs that name a folder, and mean something else wherever they stand alone
_SIGNS = {"", ".", "/", "~"}
#: what a step's fields call what a configuration calls otherwise
_CONFIG = {
    "lowering": "precision.lowering",
    "source": "calibration.source",
    "calibrator": "calibration.calibrator",
    "components": "component",
}


def texts_in(fields: Mapping[str, Any]) -> dict[str, str]:
    """{place in the configuration: text} of the arguments of all that a step calls."""
    return dict(_texts(fields, ""))


def _texts(value: Any, place: str) -> Iterator[tuple[str, str]]:
    if not isinstance(value, Mapping):
        return
    if isinstance(value.get("target"), str):
        arguments = {"kwargs": place, "options": f"{place}.options", "session": f"{place}.session"}
        for key, at in arguments.items():
            yield from _strings(value.get(key), at)
        return
    for key, inner in value.items():
        yield from _texts(inner, _CONFIG.get(key, f"{place}.{key}" if place else str(key)))


def _strings(value: Any, place: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield place, value
    items = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list | tuple) else ()
    for key, inner in items:
        if key != "_target_":
            yield from _strings(inner, f"{place}.{key}")


def files_named(text: str, store: Path) -> dict[str, Path]:
    """What `text` names: {"": the file}, {"/name": a file} of a folder, or nothing.

    Raises AutovoiceError for what cannot count by content, OSError for what cannot be looked at.
    """
    path = _path(text)
    if path is None:
        return {}
    kind = os.stat(path).st_mode
    if stat.S_ISREG(kind):
        return {"": path}
    if stat.S_ISDIR(kind):
        if store.is_relative_to(path.resolve()):
            fix = "name a folder inside it, or build elsewhere: paths.outputs=/another/folder"
            raise AutovoiceError(f"the folder '{text}' holds the store, which every build changes", fix)
        return {f"/{name}": file for name, file in files_below(path).items()}
    _check_plain(path, kind)
    return {}


def _path(text: str) -> Path | None:
    """What stands where `text` says, None where nothing does."""
    if text in _SIGNS:
        return None
    candidates = [Path(text)]
    try:
        if text.startswith("~"):
            candidates.append(Path(text).expanduser())
        if text.startswith("file://"):
            candidates.append(Path(unquote(urlparse(text).path)))
        if text.startswith("pkg://"):
            candidates.append(located(text))
        return next((p for p in candidates if os.path.exists(p)), None)
    except (AutovoiceError, RuntimeError, ValueError):  # no such package, no such user, no name at all
        return None


def files_below(folder: Path) -> dict[str, Path]:
    """Every file below a folder by its name there, links followed; raises AutovoiceError as `files_named` does."""
    found: dict[str, Path] = {}
    seen = set()
    for place, folders, names in os.walk(folder, followlinks=True, onerror=_refuse):
        here = os.stat(place)
        if (here.st_dev, here.st_ino) in seen:  # a link to a folder above, or to one that was here
            folders.clear()
            continue
        seen.add((here.st_dev, here.st_ino))
        folders[:] = sorted(set(folders) - _NOT_READ)
        if len(found) + len(names) > MOST_FILES:
            fix = "name a smaller one, or its files (a calibration's: calibration.files); if none is meant, rename it"
            raise AutovoiceError(f"the folder '{folder}' holds more than {MOST_FILES} files, too many to count", fix)
        for name in sorted(names):
            path = Path(place, name)
            if not path.exists():  # a link to nothing
                continue
            _check_plain(path, path.stat().st_mode)
            found[_spelled(path.relative_to(folder))] = path
    return found


def _refuse(error: OSError) -> None:
    raise error


def _spelled(path: Path) -> str:
    """Names that are no text count too."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _check_plain(path: Path, kind: int) -> None:
    if stat.S_ISFIFO(kind) or stat.S_ISSOCK(kind):
        fix = "what comes out of it does not count: name a file, or a folder of files"
        raise AutovoiceError(f"'{path}' is neither a file nor a folder", fix)


def appeared(files: Mapping[str, Path]) -> Path | None:
    """Of a step's files, the first one that is there now, in a folder that they are from, and is not among them."""
    known: dict[tuple[str, Path], set[str]] = {}
    for name, path in files.items():
        place, slash, inside = name.partition("/")
        if slash and " " not in place:
            known.setdefault((place, path.parents[inside.count("/")]), set()).add(inside)
    for (_, folder), names in known.items():
        for name, path in files_below(folder).items():
            if name not in names:
                return path
    return None
