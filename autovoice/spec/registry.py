"""The names under which manifests find the classes that load engines; imports no backend."""

from __future__ import annotations

from functools import cache
from importlib.metadata import entry_points
from pathlib import Path

#: the package of the shipped backends, and the group of entry points under which others are installed
GROUP = "autovoice.backends"
#: in the package of a shipped backend: the module that has its class, as `BACKEND`
MODULE = "backend"
_FOLDER = Path(__file__).parents[1] / "backends"


@cache
def shipped() -> set[str]:
    """The packages of `autovoice.backends` that are backends."""
    return {path.parent.name for path in _FOLDER.glob(f"*/{MODULE}.py")}


@cache
def loader_of(target: str) -> str | None:
    """The name by which the class at `target` is found again: a shipped package's, an entry point's, or None."""
    module, _, attribute = target.rpartition(".")
    name = module.removeprefix(f"{GROUP}.").removesuffix(f".{MODULE}")
    if module == f"{GROUP}.{name}.{MODULE}" and name in shipped():
        return name
    wanted = f"{module}:{attribute}"
    return next((e.name for e in entry_points(group=GROUP) if e.value.replace(" ", "") == wanted), None)
