"""The arguments that a source takes, read from its code: the process that plans imports none of it."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from autovoice.errors import AutovoiceError
from autovoice.plan.code import module_of, source_file

_CALLED = ("__init__", "__new__")


def parameters_of(target: str) -> frozenset[str] | None:
    """Names of the arguments of the function or class `target`; None where its code cannot tell."""
    try:
        module = module_of(target)
        path = source_file(module)
        tree = ast.parse(path.read_bytes()) if path else ast.parse("")
    except (AutovoiceError, OSError, SyntaxError):  # told when its key is computed, with what to do about it
        return None
    name = target.removeprefix(f"{module}.")
    found = next((f for f in tree.body if getattr(f, "name", None) == name), None)
    functions = list(_functions(found)) if found is not None else []
    return frozenset(a for f in functions for a in _arguments(f)) if functions else None


def _functions(node: ast.AST) -> Iterator[ast.FunctionDef]:
    """Itself, or what makes an instance of a class; nothing that a decorator may have changed."""
    if isinstance(node, ast.FunctionDef) and not node.decorator_list:
        yield node
    elif isinstance(node, ast.ClassDef):
        yield from (f for f in node.body if isinstance(f, ast.FunctionDef) and f.name in _CALLED)


def _arguments(function: ast.FunctionDef) -> list[str]:
    return [a.arg for a in (*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs)]
