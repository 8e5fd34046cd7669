"""Code as an input: the files behind a dotted path, found by reading import statements, importing nothing."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.machinery import ModuleSpec
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from pathlib import Path

from autovoice.errors import AutovoiceError
from autovoice.hashing import file_sha256


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


def _file(module: str) -> Path | None:
    spec = _find(module)
    return Path(spec.origin) if spec and spec.origin and spec.origin.endswith(".py") else None


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


def _imports(module: str, path: Path) -> Iterator[str]:
    """The modules of the same top-level package that `path` may import, wherever in the file it does."""
    top = module.partition(".")[0]
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in _running(_tree(path)):
        if isinstance(node, ast.Import):
            yield from (a.name for a in node.names if a.name.partition(".")[0] == top)
        elif isinstance(node, ast.ImportFrom):
            base = package
            for _ in range(node.level - 1):
                base = base.rpartition(".")[0]
            base = (f"{base}.{node.module}" if node.module else base) if node.level else node.module or ""
            if base.partition(".")[0] == top:
                yield base
                yield from (f"{base}.{a.name}" for a in node.names)


def _running(node: ast.AST) -> Iterator[ast.AST]:
    """Every node below `node` that can run: not what stands under `if TYPE_CHECKING:`."""
    if isinstance(node, ast.If) and getattr(node.test, "attr", getattr(node.test, "id", "")) == "TYPE_CHECKING":
        for statement in node.orelse:
            yield from _running(statement)
        return
    yield node
    for child in ast.iter_child_nodes(node):
        yield from _running(child)


def _tree(path: Path) -> ast.Module:
    try:
        return ast.parse(path.read_bytes(), filename=str(path))
    except SyntaxError as e:
        raise AutovoiceError(f"{path}:{e.lineno}: {e.msg}", "this file is not valid Python") from e


_PARSED: dict[tuple[str, str], tuple[str, ...]] = {}


def _imported(module: str, path: Path, digest: str) -> tuple[str, ...]:
    key = (module, digest)
    if key not in _PARSED:
        _PARSED[key] = tuple(dict.fromkeys(_imports(module, path)))
    return _PARSED[key]


def import_lists() -> dict[tuple[str, str], tuple[str, ...]]:
    """The import lists found so far by (module, content), for the caller to keep between runs."""
    return _PARSED


@cache
def closure(target: str) -> Mapping[str, str]:
    """What the code behind `target` is: {file: sha256} of it and of all of its package that it imports.

    Code of an installed distribution counts as {distribution: version}: its files do not change in place.
    """
    start = module_of(target)
    installed = _distribution(start)
    if installed is not None:
        return {installed: version(installed)}
    found: dict[str, str] = {}
    left, seen = [start], set()
    while left:
        module = left.pop()
        if module in seen:
            continue
        seen.add(module)
        parent = module.rpartition(".")[0]
        if parent:
            left.append(parent)  # importing a.b.c runs a and a.b
        path = _file(module)
        if path is not None:
            found[module] = file_sha256(path)
            left.extend(_imported(module, path, found[module]))
    return dict(sorted(found.items()))


def _distribution(module: str) -> str | None:
    """The installed distribution a module belongs to, None for files of the user's own (or editable ones)."""
    path = _file(module)
    if path is None or not any(part in ("site-packages", "dist-packages") for part in path.parts):
        return None
    top = module.partition(".")[0]
    try:  # a package mostly has its distribution's name; the full map reads every installed distribution
        return version(top) and top
    except PackageNotFoundError:
        names = packages_distributions().get(top)
        return names[0] if names else None


@cache
def tool_version(name: str) -> str:
    """The installed version of a distribution, `absent` when there is none."""
    try:
        return version(name)
    except PackageNotFoundError:
        return "absent"


def add_cwd_to_path() -> None:
    """A user's modules beside the configuration are importable, as with `python -m`."""
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))
