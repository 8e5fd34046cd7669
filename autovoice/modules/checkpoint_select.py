"""One state dict out of what a checkpoint file holds: `key`, dotted where it is nested more than once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from autovoice.errors import CheckpointError, choices, nearest
from autovoice.modules.checkpoint_kind import PLACE
from autovoice.terminal.overrides import setting

State = dict[str, Tensor]
#: levels and state dicts that are looked at for advice
_DEEPEST, _MOST = 6, 40


def select(data: Any, key: str | None, path: Path) -> State:
    """The tensors at `key`, or at the top, by name; whatever else is there is left out. Raises CheckpointError."""
    inside = data
    if key is not None:
        found = next(_at(data, key), None)
        if found is None:
            raise CheckpointError(f"'{path}' has no key '{key}'", _advice(data, key, path))
        (inside,) = found
    state = {str(name): value for name, value in _items(inside) if isinstance(value, Tensor)}
    if not state:
        where = f"key '{key}' of '{path}'" if key else f"'{path}'"
        fact = f"{where} holds no tensors by name but a {type(inside).__name__}"
        raise CheckpointError(fact, _advice(data, key or "", path))
    return state


def _at(data: Any, key: str) -> Iterator[tuple[Any]]:
    """What lies at a key, the whole of it tried as one name first, for names may hold dots themselves."""
    items = {str(name): value for name, value in _items(data)}
    if key in items:
        yield (items[key],)
    for i in (i for i, letter in enumerate(key) if letter == "."):
        if key[:i] in items:
            yield from _at(items[key[:i]], key[i + 1 :])


def _items(data: Any) -> list[tuple[Any, Any]]:
    return list(data.items()) if isinstance(data, Mapping) else []


def _states(data: Any, above: str = "", depth: int = 0) -> Iterator[str]:
    """The dotted key of every mapping below that holds tensors."""
    for name, value in _items(data) if depth < _DEEPEST else ():
        if not isinstance(value, Mapping):
            continue
        here = f"{above}{name}"
        if any(isinstance(v, Tensor) for v in value.values()):
            yield here
        yield from _states(value, f"{here}.", depth + 1)


def _advice(data: Any, key: str, path: Path) -> str:
    nested = [name for name, _ in zip(_states(data), range(_MOST), strict=False)]
    if not nested:
        if not key:
            return "the file nests no state dict: save the module's state_dict()"
        if any(isinstance(v, Tensor) for _, v in _items(data)):
            return f"the file nests no state dict: leave key out, {setting(f'{PLACE}.key', None)}"
        return "the file nests no state dict: save the module's state_dict()"
    below = [n for n in nested if n.startswith(f"{key}.")]
    near = nearest(key, nested)
    best = (below or [n for n in nested if near.startswith(f"did you mean '{n}'")] or nested)[0]
    listed = f"available: {choices(below)}" if below else near
    typed = setting(PLACE, {"path": str(path), "key": best})
    return f"set key to the state dict to load, as {typed}; {listed}"
