"""Code as an input: the files behind a dotted path, found by reading import statements, importing nothing.

Code of the user's own, or of an editable install, counts by content, file by file, through every package of that
kind that it imports. Installed distributions do not change in place: they count by version, and those that are from
no package index by what was installed too.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping
from functools import cache
from importlib import invalidate_caches
from importlib.machinery import ModuleSpec
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path
from typing import Any

from autovoice.errors import AutovoiceError
from autovoice.plan.imports import imported
from autovoice.store.hashing import file_sha256


@cache
def _find(module: str) -> ModuleSpec | None:
    """The spec of a module by asking the finders: unlike `importlib.util.find_spec`, runs no `__init__`."""
    parent, _, _ = module.rpartition(".")
    path = None
    if parent:
        above = _find(parent)
        if above is None or above.submodule_search_locations is None:
            return None
        path = list(above.submodule_search_locations)
    found = (f.find_spec(module, path) for f in sys.meta_path if hasattr(f, "find_spec"))
    return next((spec for spec in found if spec is not None), None)


def code_file(module: str) -> Path | None:
    """The file that a module is loaded from, compiled or not; None for packages without one."""
    spec = _find(module)
    return Path(spec.origin) if spec and spec.has_location and spec.origin else None


def source_file(module: str) -> Path | None:
    """The Python file of a module, None for packages without one and for compiled code."""
    path = code_file(module)
    return path if path is not None and path.suffix == ".py" else None


@cache
def module_of(target: str) -> str:
    """The longest importable prefix of a dotted path: `package.module` of `package.module.Class`.

    Raises AutovoiceError when not even the module before the last dot exists.
    """
    parts = target.split(".")
    for n in range(len(parts) - 1, 0, -1):
        if _find(".".join(parts[:n])) is not None:
            if n < len(parts) - 1 and not parts[n][:1].isupper():
                break  # `package.typo.Class`: the package alone is not what was meant
            return ".".join(parts[:n])
    raise AutovoiceError(
        f"_target_ '{target}': there is no module '{'.'.join(parts[:-1])}'",
        "install its package in this environment, or put its folder on PYTHONPATH",
    )


#: module → the digest of its file, and what the file imports: reading it takes longer than anything else in a plan.
#: A package's name ends in a dot: what its file imports relatively is something else than what a module's does
_KNOWN: dict[str, tuple[str, tuple[str, ...]]] = {}
_CHANGED: set[str] = set()


def _imports(module: str, path: Path, digest: str) -> tuple[str, ...]:
    """The modules that `path` may import, wherever in the file it does; names that are not modules among them."""
    name = f"{module}." if path.name == "__init__.py" else module
    known = _KNOWN.get(name)
    if known is not None and known[0] == digest:
        return known[1]
    content = path.read_bytes()
    found = tuple(dict.fromkeys(imported(module, path, content)))
    if hashlib.sha256(content).hexdigest() == digest:  # not changed meanwhile
        _KNOWN[name] = (digest, found)
        _CHANGED.add(name)
    return found


def remember(data: Mapping[str, Any]) -> None:
    """Take over what an earlier run learned, if it read files as this one does."""
    imports = data.get("imports")
    if data.get("by") != _this() or not isinstance(imports, dict):
        return
    for module, entry in imports.items():
        match entry:
            case [str(digest), [*names]] if all(isinstance(n, str) for n in names):
                _KNOWN[module] = (digest, tuple(names))


def learned() -> dict[str, Any] | None:
    """What is known of the imports of every module that is still there, when anything was learned; None otherwise."""
    if not _CHANGED:
        return None
    alive = {name: entry for name, entry in _KNOWN.items() if source_file(name.removesuffix(".")) is not None}
    return {"by": _this(), "imports": alive}


def _this() -> str:
    reader = Path(imported.__code__.co_filename)
    return f"{file_sha256(reader)} {sys.version_info[0]}.{sys.version_info[1]}"


@cache
def _walk(target: str) -> tuple[Mapping[str, str], frozenset[str]]:
    """({module: sha256}, installed top-level packages) behind `target`."""
    files: dict[str, str] = {}
    installed: set[str] = set()
    start = module_of(target)
    left, seen = [start], set()
    while left:
        module = left.pop()
        if module in seen:
            continue
        seen.add(module)
        path = code_file(module)
        own = _kind(module.partition(".")[0]) == "own"
        if path is not None and (own or module == start):
            files[module] = file_sha256(path)
            for name in _imports(module, path, files[module]) if path.suffix == ".py" else ():
                kind = _kind(name.partition(".")[0])
                if kind == "own":
                    left.append(name)
                elif kind == "installed":
                    installed.add(name.partition(".")[0])
        if own and "." in module:
            left.append(module.rpartition(".")[0])  # importing a.b.c runs a and a.b
    if _kind(start.partition(".")[0]) == "installed":
        files.clear()
        installed.add(start.partition(".")[0])
    return dict(sorted(files.items())), frozenset(installed)


def closure(target: str) -> Mapping[str, str]:
    """The content of the code behind `target`, {module: sha256}; empty for an installed package.

    Raises AutovoiceError for a module that does not exist or is not Python.
    """
    return _walk(target)[0]


def third_party(target: str) -> Mapping[str, str]:
    """The installed distributions that the code behind `target` imports, {distribution: version}."""
    names = {name for top in _walk(target)[1] for name in _distributions(top)}
    return {name: tool_version(name) + _installed_from(name) for name in sorted(names)}


@cache
def _installed_from(name: str) -> str:
    """What tells apart two of one version, where a distribution is from a folder, an archive or a repository.

    Those of a package index do not change.
    """
    try:
        found = distribution(name)
    except PackageNotFoundError:
        return ""
    if found.read_text("direct_url.json") is None:
        return ""
    return f" ({hashlib.sha256((found.read_text('RECORD') or '').encode()).hexdigest()[:12]})"


@cache
def _kind(top: str) -> str:
    """`own`, `installed`, `standard` or, for what cannot be found, `absent`."""
    if top in sys.stdlib_module_names:
        return "standard"
    folder = _folder(top)
    if folder is None:
        return "absent"
    return "installed" if {"site-packages", "dist-packages"} & set(folder.parts) else "own"


def _folder(top: str) -> Path | None:
    """Where a top-level package or module stands."""
    spec = _find(top)
    if spec is None:
        return None
    if spec.origin and spec.origin not in ("built-in", "frozen"):
        path = Path(spec.origin)
        return path.parent.parent if spec.submodule_search_locations else path.parent
    places = list(spec.submodule_search_locations or ())
    return Path(places[0]).parent if places else None


@cache
def _distributions(top: str) -> tuple[str, ...]:
    """The distributions that installed a top-level package; mostly one, of the same name."""
    if tool_version(top) != "absent":
        return (top,)
    folder = _folder(top)
    infos = folder.glob("*.dist-info") if folder else ()
    # importlib.metadata would parse every distribution's files to tell; their records name them in plain text
    return tuple(sorted(info.name.partition("-")[0] for info in infos if _lists(info / "RECORD", top)))


def _lists(record: Path, top: str) -> bool:
    try:
        text = record.read_text(errors="replace")
    except OSError:
        return False
    return text.startswith((f"{top}/", f"{top}.")) or f"\n{top}/" in text or f"\n{top}.py," in text


@cache
def tool_version(name: str) -> str:
    """The installed version of a distribution, `absent` when there is none."""
    try:
        return version(name)
    except PackageNotFoundError:
        return "absent"


def forget() -> None:
    """Look at everything again: code was edited while this process ran."""
    invalidate_caches()
    for looked_up in (_find, module_of, _walk, _kind, _distributions, _installed_from):
        looked_up.cache_clear()


def add_cwd_to_path() -> None:
    """A user's modules beside the configuration are importable, as with `python -m`."""
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))
