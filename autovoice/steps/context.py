"""A step's context. Apart from everything else: a step's key covers the code that it imports."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Context:
    """A step's fields, the folders of what it needs by role, its files by name, and the folder to write into.

    `caches` is a folder that outlives the step, for what saves time and changes nothing.
    """

    fields: Mapping[str, Any]
    needs: Mapping[str, Path]
    files: Mapping[str, Path]
    out: Path
    caches: Path = Path()
