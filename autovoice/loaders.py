"""How a manifest names the class that loads an engine; imports no backend."""

from __future__ import annotations

import pkgutil
from functools import cache
from importlib.metadata import entry_points

GROUP = "autovoice.backends"
_NOT_BACKENDS = {"base"}


@cache
def shipped() -> set[str]:
    """The modules of `autovoice.backends` that are backends."""
    import autovoice.backends as package

    return {m.name for m in pkgutil.iter_modules(package.__path__)} - _NOT_BACKENDS


@cache
def loader_of(target: str) -> str | None:
    """The name under which the class at `target` is found again: a shipped module's, or an entry point's; else None."""
    module, _, attribute = target.rpartition(".")
    package, _, name = module.rpartition(".")
    if package == GROUP and name in shipped():
        return name
    wanted = f"{module}:{attribute}"
    return next((e.name for e in entry_points(group=GROUP) if e.value.replace(" ", "") == wanted), None)
