"""An engine, as backends are given it to load."""

from __future__ import annotations

from typing import Protocol, runtime_checkable


class Engine(Protocol):
    """Where an engine is read from: a path, or a file of a published folder, whose content is checked as it is read.

    `os.fspath` of it opens what was checked, `str` is its name in messages; `with_name` gives a file beside it.
    """

    @property
    def name(self) -> str: ...
    def read_bytes(self) -> bytes: ...
    def with_name(self, name: str, /) -> Engine: ...
    def __fspath__(self) -> str: ...


@runtime_checkable
class RunsCode(Protocol):
    """A backend some of whose engines name code, or hold it: what they run is asked for before it is loaded."""

    def code_in(self, engine: Engine) -> tuple[str, ...]:
        """Dotted names of what loading would import, or the name of the engine itself; imports nothing of it."""
        ...
