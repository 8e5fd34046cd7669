"""The look-up of a choice by name in the tree that a configuration was composed from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from autovoice.errors import Fault

#: of the backends, in place of what one is: which others to choose among
AUTO = "auto"


class Lookup(Protocol):
    """The options of every group."""

    def names(self, group: str) -> Sequence[str]:
        """What there is to choose from."""
        ...

    def __call__(self, group: str, name: str, where: str) -> Mapping[str, Any] | Fault:
        """The group's node of that name, or a fault at `where` that says what exists."""
        ...
