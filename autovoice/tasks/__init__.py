"""The tasks, by name: one module each, with `run(invocation) -> exit code`."""

from __future__ import annotations

import ast
import pkgutil
import re
from pathlib import Path


def task_names() -> list[str]:
    """Every module of this package is a task."""
    return sorted(m.name for m in pkgutil.iter_modules(__path__))


def task_list() -> str:
    """A line for each: its name, and what its module says it is; none of them is imported."""
    names = task_names()
    width = max(map(len, names))
    return "\n".join(f"  {name:<{width}}  {_sentence(name)}" for name in names)


def _sentence(name: str) -> str:
    """The first line of a module's docstring, without `task=…` before it."""
    text = ast.get_docstring(ast.parse((Path(__path__[0]) / f"{name}.py").read_bytes())) or ""
    return re.sub(r"^`[^`]*`: ", "", text.partition("\n")[0])
