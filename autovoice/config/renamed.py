"""Keys that had another name once: what says the old one is told the new one."""

from __future__ import annotations

import re

from autovoice.errors import Fault

_NEW = (
    (re.compile(r"tensorrt\.(\w+)\.engine_dir"), r"engines.\1.dir=/a/folder"),
    (re.compile(r"tensorrt(?:\..*)?"), "engines.<pipeline>.dir=/a/folder"),
    (re.compile(r"paths\.tensorrt_engines"), "paths.engines=/a/folder"),
)


def renamed(key: str) -> Fault | None:
    """What to tell of an old key, None for any other."""
    for old, new in _NEW:
        found = old.fullmatch(key)
        if found:
            name, _, value = found.expand(new).partition("=")
            return Fault(key, f"is called {name} now", f"{name}={value}")
    return None
