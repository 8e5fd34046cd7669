"""Reads plain nested data strictly: unknown keys, wrong types and missing values become faults, all collected."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from autovoice.errors import Fault, nearest

T = TypeVar("T")
_REQUIRED: Any = object()
_WORDS = {dict: "a mapping", list: "a list", str: "a string", int: "a whole number", bool: "true or false"}
_EMPTY: dict[type, Any] = {dict: {}, list: [], str: "", int: 0, bool: False, float: 0.0}


class Reader:
    """One mapping of the configuration at `where`; `take` each key, then `done` reports what nobody took."""

    def __init__(self, data: Any, where: str, faults: list[Fault]) -> None:
        self.where = where
        self.faults = faults
        if not isinstance(data, Mapping):
            self.fault("", f"must be a mapping, got {data!r}")
            data = {}
        self.data: dict[str, Any] = {str(k): v for k, v in data.items()}  # YAML reads `1:` as a number
        self.taken: set[str] = set()

    def path(self, key: str) -> str:
        return ".".join(p for p in (self.where, key) if p)

    def fault(self, key: str, fact: str, fix: str = "") -> None:
        self.faults.append(Fault(self.path(key), fact, fix))

    def take(self, key: str, kind: type[T], default: Any = _REQUIRED) -> T:
        """The value of `key`, of type `kind`; `default` when absent or null. Floats accept whole numbers."""
        self.taken.add(key)
        value = self.data.get(key)
        if value is None:
            if default is not _REQUIRED:
                return default
            self.fault(key, "is required", f"add `{key}:` ({_WORDS.get(kind, kind.__name__)})")
            return _EMPTY[kind]
        if kind is float and type(value) is int:
            value = float(value)
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            self.fault(key, f"must be {_WORDS.get(kind, 'a number')}, got {value!r}")
            return _EMPTY[kind] if default is _REQUIRED else default
        return value

    def raw(self, key: str) -> Any:
        """The value of `key` whatever its type, None when absent."""
        self.taken.add(key)
        return self.data.get(key)

    def child(self, key: str) -> Reader:
        """The mapping under `key`; an absent one reads as empty."""
        return Reader(self.take(key, dict, {}), self.path(key), self.faults)

    def children(self, key: str) -> Iterator[tuple[str, Reader]]:
        """Every entry of the mapping under `key`, as its own reader."""
        for name, data in self.take(key, dict, {}).items():
            yield str(name), Reader(data, self.path(f"{key}.{name}"), self.faults)

    def strings(self, key: str) -> tuple[str, ...]:
        values = self.take(key, list, [])
        if all(isinstance(v, str) for v in values):
            return tuple(values)
        self.fault(key, f"must be a list of names, got {values!r}")
        return ()

    def done(self) -> None:
        """Report the keys that nobody took, with the nearest valid name."""
        for key in [k for k in self.data if k not in self.taken]:
            self.fault(key, f"unknown key '{key}'", nearest(key, self.taken))
