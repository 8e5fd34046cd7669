"""A step's context. Apart from everything else: a step's key covers the code that it imports."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

#: one of `autovoice.steps.fields`
Fields = TypeVar("Fields", bound=Mapping[str, Any], covariant=True)


@dataclass(frozen=True)
class Context(Generic[Fields]):
    """A step's fields, the folders of what it needs by role, its files by name, and the folder to write into.

    `caches` is a folder that outlives the step, for what saves time and changes nothing.
    """

    fields: Fields
    needs: Mapping[str, Path]
    files: Mapping[str, Path]
    out: Path
    caches: Path = Path()
