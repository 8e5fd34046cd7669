"""Reads plain nested data strictly: unknown keys, wrong types and missing values become faults, all collected."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar, cast

from autovoice.config.example import fitting, override, plain
from autovoice.errors import Fault, nearest

T = TypeVar("T")
#: what can name a file, a folder or a step
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_REQUIRED: Any = object()
_WORDS = {dict: "a mapping", list: "a list", str: "a string", int: "a whole number", bool: "true or false"}
_NAMES = "[first,second]"
_EMPTY: dict[type, Any] = {dict: {}, list: [], str: "", int: 0, bool: False, float: 0.0}


class Reader:
    """One mapping of the configuration at `where`; `take` each key, then `done` reports what nobody took.

    `example` is one that could stand there.
    """

    def __init__(self, data: Any, where: str, faults: list[Fault], example: str = "{key: value}") -> None:
        self.where = where
        self.faults = faults
        if not isinstance(data, Mapping):
            self.fault("", f"must be a mapping, got {data!r}", override(where, example) + unquoted(data))
            data = {}
        self.data: dict[str, Any] = {str(k): v for k, v in data.items()}  # YAML reads `1:` as a number
        self.taken: set[str] = set()

    def path(self, key: str) -> str:
        return ".".join(p for p in (self.where, key) if p)

    def fault(self, key: str, fact: str, fix: str) -> None:
        self.faults.append(Fault(self.path(key), fact, fix))

    def take(self, key: str, kind: type[T], default: Any = _REQUIRED, example: str = "") -> T:
        """The value of `key`, of type `kind`; `default` when absent or null. Floats accept whole numbers.

        `example` is what to offer for a value of another kind, where more is known than the kind.
        """
        self.taken.add(key)
        value = self.data.get(key)
        if value is None:
            if default is not _REQUIRED:
                return cast(T, default)
            self.fault(key, "is required", f"add `{key}:` ({_WORDS.get(kind, kind.__name__)})")
            return cast(T, _EMPTY[kind])
        if kind is float and type(value) is int:
            value = float(value)
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            required = default is _REQUIRED
            instead = (example,) if example else fitting(value, kind, None if required else default)
            instead += ("null",) if default is None else ()
            fix = ", or ".join(override(self.path(key), text) for text in instead)
            fix += unquoted(value) if kind is str else ""
            self.fault(key, f"must be {_WORDS.get(kind, 'a number')}, got {value!r}", fix)
            return cast(T, _EMPTY[kind] if required else default)
        return value

    def raw(self, key: str) -> Any:
        """The value of `key` whatever its type, None when absent."""
        self.taken.add(key)
        return self.data.get(key)

    def child(self, key: str, example: str = "") -> Reader:
        """The mapping under `key`; an absent one reads as empty."""
        return Reader(self.take(key, dict, {}, example), self.path(key), self.faults)

    def children(self, key: str, example: str = "{key: value}", called: str = "name") -> Iterator[tuple[str, Reader]]:
        """Every entry of the mapping under `key`, as its own reader; `example`, `called` so, is one that could be."""
        for name, data in self.take(key, dict, {}, f"{{{called}: {example}}}").items():
            yield str(name), Reader(data, self.path(f"{key}.{name}"), self.faults, example)

    def strings(self, key: str) -> tuple[str, ...]:
        """The list of names under `key`; an absent one reads as empty."""
        values = self.take(key, list, [], "" if isinstance(self.data.get(key), str) else _NAMES)
        if all(isinstance(v, str) for v in values):
            return tuple(values)
        meant = _NAMES if any(isinstance(v, list | Mapping) or v is None for v in values) else _named(values)
        fix = override(self.path(key), meant) + next((hint for v in values if (hint := unquoted(v))), "")
        self.fault(key, f"must be a list of names, got {values!r}", fix)
        return ()

    def done(self) -> None:
        """Report the keys that nobody took, with the nearest valid name."""
        for key in [k for k in self.data if k not in self.taken]:
            self.fault(key, f"unknown key '{key}'", nearest(key, self.taken))


def unquoted(value: Any) -> str:
    """What to add where a name may have been meant that YAML reads as true or false."""
    if not isinstance(value, bool):
        return ""
    words = "true, yes or on" if value else "false, no or off"
    return f"; a name that is the word {words} stands in quotes"


def _named(values: list[Any]) -> str:
    """The list as it would be, were all of it names."""
    return f"[{','.join(plain(str(v)) for v in values)}]"
