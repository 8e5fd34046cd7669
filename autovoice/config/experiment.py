"""The command line that uses a file of the group `experiment`."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable
from pathlib import Path

from autovoice.config.task_options import EVERY
from autovoice.terminal.overrides import setting

_GROUP = "experiment"
#: where a tree of the user's own begins, when there is none
_NEW = Path("my/conf")


def usage(file: Path, tree: Path | None, overrides: Iterable[str]) -> str:
    """The command that builds with `file` on top of what `overrides` say, `tree` being the one of --config-dir.

    A file that lies in no `experiment/` of that tree is copied there first: Hydra finds it nowhere else.
    """
    lies_in = file.parent.parent if file.absolute().parent.name == _GROUP else None
    if lies_in is not None and (tree is None or _same(lies_in, tree)):
        return _command(lies_in if str(lies_in) else Path("."), file.stem, overrides)
    tree = _NEW if tree is None else tree
    folder = shlex.quote(f"{relative_path(tree)}/{_GROUP}")
    copied = f"mkdir -p {folder} && cp {shlex.quote(str(file))} {folder}/"
    return f"{copied} && {_command(tree, file.stem, overrides)}"


def _command(tree: Path, name: str, overrides: Iterable[str]) -> str:
    keyed = [(o.lstrip("+~").partition("=")[0], o) for o in overrides]
    kept = [o for key, o in keyed if key not in EVERY | {"task", _GROUP}]
    before = [n for key, o in keyed if key == _GROUP for n in _names(o.partition("=")[2])]
    chosen = [*(n for n in before if n not in (name, "null")), name]
    words = shlex.join(["autovoice", "--config-dir", relative_path(tree), *kept])
    return f"{words} {setting(_GROUP, chosen if len(chosen) > 1 else name)}"


def _names(value: str) -> list[str]:
    return [n for part in value.strip("[]").split(",") if (n := part.strip(" \"'"))]


def relative_path(path: Path) -> str:
    """Relative where it lies below the folder that the command is typed in."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_absolute() and path.is_relative_to(here) else str(path)


def _same(one: Path, other: Path) -> bool:
    return os.path.realpath(one) == os.path.realpath(other)
