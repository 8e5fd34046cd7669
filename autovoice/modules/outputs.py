"""The outputs of forward() as tensors by name: of one tensor, a tuple, a dictionary, a dataclass, or any nesting."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

import torch

from autovoice.errors import ExportError, nearest

#: keys, fields and positions from the outermost container in
Keys = tuple[str | int, ...]


def named_outputs(name: str, got: Any, declared: Sequence[str]) -> dict[str, torch.Tensor]:
    """The tensors that the module `name` returned under their declared names, in the order in which it has them.

    A dictionary's or a dataclass's by its keys or fields; a named tuple's too where these are the declared names, and
    what is nested where its innermost keys are; all others by position. None is no output.
    """
    leaves = [(path, value) for path, value in _leaves(got, ()) if value is not None]
    keys = [str(path[-1]) if path else "" for path, _ in leaves]
    if _keyed(got) and all(len(path) == 1 for path, _ in leaves):
        _check_keys(name, keys, declared)
        names: Sequence[str] = keys
    else:
        names = keys if sorted(keys) == sorted(declared) else declared
    if len(leaves) != len(names):
        raise ExportError(
            f"forward() of {name} returned {len(leaves)} tensors, {len(declared)} are declared",
            f"declared outputs: {', '.join(declared)}",
        )
    for output, (_, value) in zip(names, leaves, strict=True):
        if not isinstance(value, torch.Tensor):
            raise ExportError(f"output '{output}' is a {type(value).__name__}, not a tensor", "return tensors only")
    return dict(zip(names, (value for _, value in leaves), strict=True))


def flat_values(got: Any) -> tuple[Any, ...]:
    """All that is not None, in the order of `named_outputs`."""
    return tuple(value for _, value in _leaves(got, ()) if value is not None)


def _keyed(got: Any) -> bool:
    return isinstance(got, Mapping) or (is_dataclass(got) and not isinstance(got, type))


def _leaves(got: Any, path: Keys) -> Iterator[tuple[Keys, Any]]:
    items: Any
    if isinstance(got, Mapping):
        items = got.items()
    elif is_dataclass(got) and not isinstance(got, type):
        items = [(f.name, getattr(got, f.name)) for f in fields(got)]
    elif isinstance(got, tuple) and hasattr(got, "_fields"):
        items = zip(got._fields, got, strict=True)
    elif isinstance(got, tuple | list):
        items = enumerate(got)
    else:
        yield path, got
        return
    for key, value in items:
        yield from _leaves(value, (*path, key if isinstance(key, int) else str(key)))


def _check_keys(name: str, keys: Sequence[str], declared: Sequence[str]) -> None:
    absent = [o for o in declared if o not in keys]
    if absent:
        raise ExportError(f"forward() of {name} returned no '{absent[0]}'", nearest(absent[0], keys))
    extra = [k for k in keys if k not in declared]
    if extra:
        raise ExportError(
            f"forward() of {name} also returned '{extra[0]}', which is not declared",
            f"outputs: {', '.join(declared)}",
        )
