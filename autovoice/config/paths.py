"""Paths as a configuration writes them: a file, a folder, a pattern, or a place inside an installed package."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from os.path import expanduser
from pathlib import Path

from autovoice.errors import AutovoiceError

_PACKAGE = "pkg://"
_WILD = "*?["


def located(text: str) -> Path:
    """The path that `text` means; `~/file` lies at home, `pkg://name/file` in the installed package, not imported.

    Raises AutovoiceError for a package that is not installed.
    """
    if not text.startswith(_PACKAGE):
        return Path(expanduser(text))
    name, _, rest = text.removeprefix(_PACKAGE).partition("/")
    spec = find_spec(name) if name.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        raise AutovoiceError(f"{text}: package '{name}' is not installed here", f"pip install {name.replace('_', '-')}")
    return Path(next(iter(spec.submodule_search_locations))) / rest


def files_of(text: str) -> dict[str, Path]:
    """Every file that `text` means, by its name below the folder or the first wildcard; empty when there is none."""
    path = located(text)
    if path.is_dir():
        found = _visible(path, path.rglob("*"))
        return {str(p.relative_to(path)): p for p in found}
    fixed = _fixed(path)
    if fixed == path or path.is_file():  # a name may hold brackets
        return {path.name: path} if path.is_file() else {}
    return {str(p.relative_to(fixed)): p for p in _visible(fixed, fixed.glob(str(path.relative_to(fixed))))}


def _fixed(path: Path) -> Path:
    """The part of a pattern above its first wildcard."""
    for i, part in enumerate(path.parts):
        if any(c in part for c in _WILD):
            return Path(*path.parts[:i])
    return path


def _visible(root: Path, paths: Iterator[Path]) -> list[Path]:
    return sorted(p for p in paths if p.is_file() and not any(n.startswith(".") for n in p.relative_to(root).parts))
