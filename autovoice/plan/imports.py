"""The imports of a Python file, found by reading it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from autovoice.errors import AutovoiceError


def imported(module: str, path: Path, content: bytes) -> Iterator[str]:
    """Every module that the code of a module may import, wherever in it; names that are no modules among them."""
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in _running(_tree(path, content)):
        if isinstance(node, ast.Import):
            yield from (a.name for a in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package
            for _ in range(node.level - 1):
                base = base.rpartition(".")[0]
            base = (f"{base}.{node.module}" if node.module else base) if node.level else node.module or ""
            yield base
            yield from (f"{base}.{a.name}" for a in node.names)
        elif isinstance(node, ast.Call):
            yield from _imported_by_name(node, package)


def _imported_by_name(call: ast.Call, package: str) -> Iterator[str]:
    """The module of `import_module("name")`, where the name stands there as it is."""
    called = getattr(call.func, "attr", getattr(call.func, "id", ""))
    match call.args:
        case [ast.Constant(str(name)), *_] if called in ("import_module", "__import__"):
            above = package.split(".")
            level = len(name) - len(name.lstrip("."))
            above = above[: len(above) - level + 1] if level else []
            parts = [*above, *name.lstrip(".").split(".")]
            if all(part.isidentifier() for part in parts):
                yield ".".join(parts)


def _running(node: ast.AST) -> Iterator[ast.AST]:
    """Every node below `node` that can run: not what stands under `if TYPE_CHECKING:`."""
    if isinstance(node, ast.If) and getattr(node.test, "attr", getattr(node.test, "id", "")) == "TYPE_CHECKING":
        for statement in node.orelse:
            yield from _running(statement)
        return
    yield node
    for child in ast.iter_child_nodes(node):
        yield from _running(child)


def _tree(path: Path, content: bytes) -> ast.Module:
    try:
        return ast.parse(content, filename=str(path))
    except SyntaxError as e:
        raise AutovoiceError(f"{path}:{e.lineno}: {e.msg}", "this file is not valid Python") from e
