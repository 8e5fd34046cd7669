"""Names of weights in a file against those of a module: wrappers, shared weights, types, and what to do otherwise."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from autovoice.errors import CheckpointError
from autovoice.modules.checkpoint_kind import PLACE
from autovoice.modules.checkpoint_select import State
from autovoice.terminal.overrides import setting

#: what wraps a module puts its own name into the names of the weights, wherever it stands
_WRAPPERS = re.compile(r"(?<![^.])(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
#: what DataParallel puts before all of them
_PARALLEL = "module."
_SHARD = re.compile(r".+-\d+-of-(\d+)\.\w+")


def without_wrappers(name: str) -> str:
    """`net._orig_mod.lin.weight` → `net.lin.weight`."""
    return _WRAPPERS.sub("", name)


def without_wrappers_of(names: Iterable[str]) -> dict[str, str]:
    """Every name as it is without wrappers, DataParallel's too where all are behind it."""
    plain = {name: without_wrappers(name) for name in names}
    if all(p.startswith(_PARALLEL) for p in plain.values()):
        plain = {name: p.removeprefix(_PARALLEL) for name, p in plain.items()}
    return plain


def unwrapped(state: State, wanted: Mapping[str, Tensor]) -> State:
    """The state under the module's own names, where only wrappers tell them apart; other names stay."""
    own = {without_wrappers(name): name for name in wanted}
    plain = without_wrappers_of(state)
    if any(o.startswith(_PARALLEL) for o in own):
        plain = {name: without_wrappers(name) for name in state}
    found = {name: value for name, value in state.items() if name in wanted}
    for name, value in state.items():
        if name in wanted:
            continue
        target = own.get(plain[name], plain[name])
        found[name if target in found or target in state else target] = value
    return found


def tied(state: State, wanted: Mapping[str, Tensor], path: Path) -> State:
    """With what the file leaves out because the module shares it with something that is there.

    Raises CheckpointError where the file has different values for one weight of the module.
    """
    groups: dict[Any, list[str]] = {}
    for name, value in wanted.items():
        if value.numel() and value.layout is torch.strided and value.device.type != "meta":
            memory = value.untyped_storage().data_ptr(), value.storage_offset(), value.shape, value.stride()
            groups.setdefault(memory, []).append(name)
    found = dict(state)
    for names in groups.values():
        held = [name for name in names if name in state]
        for name in held[1:]:
            if not _same(state[held[0]], state[name]):
                fact = f"{held[0]} and {name} are one weight of the module, and two in '{path}'"
                raise CheckpointError(fact, "build the module without sharing them, or save the file with one of them")
        found |= {name: state[held[0]] for name in names if held and name not in state}
    return found


def _same(one: Tensor, other: Tensor) -> bool:
    return bool(one.shape == other.shape and torch.equal(one, other))


def check_types(state: State, wanted: Mapping[str, Tensor], path: Path) -> None:
    """Raise CheckpointError for numbers that mean something else in the module's type."""
    for name, value in wanted.items():
        held = state.get(name)
        if held is None:
            continue
        lossy = held.is_complex() and not value.is_complex()
        packed = held.dtype in (torch.int8, torch.uint8) and value.is_floating_point()
        cut = held.is_floating_point() and not (value.is_floating_point() or value.is_complex())
        if lossy or packed or (cut and not torch.equal(held, held.trunc())) or held.is_quantized:
            theirs, own = (str(t.dtype).removeprefix("torch.") for t in (held, value))
            fix = "save the file in floating point: quantized and packed weights have no plain values"
            raise CheckpointError(f"{name} is {theirs} in '{path}', {own} in the module", fix)


def check_names(state: State, wanted: Mapping[str, Tensor], misfit: str, strict: bool, path: Path) -> None:
    missing = [name for name in wanted if name not in state]
    extra = [name for name in state if name not in wanted]
    if len(missing) < len(wanted) and not (strict and (missing or extra)):
        return
    faults = [
        f"{len(names)} of {total} {what} ({first(names)})"
        for names, total, what in (
            (missing, len(wanted), "parameters missing"),
            (extra, len(state), "unexpected"),
        )
        if names
    ]
    raise CheckpointError(f"{misfit}: {', '.join(faults)}", _names_fix(missing, extra, len(wanted), path))


def _names_fix(missing: list[str], extra: list[str], total: int, path: Path) -> str:
    index = next(iter(sorted(path.parent.glob("*.index.json"))), None) if _SHARD.fullmatch(path.name) else None
    if missing and index is not None:
        return f"it is one file of several: {setting(PLACE, str(index))}"
    prefixes = _likely_prefixes(missing, extra)
    if prefixes:
        which = f"one of the prefixes {', '.join(prefixes)}" if len(prefixes) > 1 else f"prefix='{prefixes[0]}'"
        typed = setting(PLACE, {"path": str(path), "prefix": prefixes[0]})
        return f"set {which}, below which the file has the missing names: {typed}"
    if len(missing) == total:
        return "no name agrees: set key or prefix to the part of the file that holds this module"
    typed = setting(PLACE, {"path": str(path), "strict": False})
    return f"set key or prefix to the module's part of the file, or strict=false to load the names that agree: {typed}"


def _likely_prefixes(missing: list[str], extra: list[str]) -> list[str]:
    """The prefixes that would find most of what is missing; none where that is not half of it."""
    plain = {_plain(without_wrappers(name)) for name in extra}
    targets = {_plain(name) for name in missing}
    heads: Counter[str] = Counter()
    for name in plain:
        for i in (i for i, letter in enumerate(name) if letter == "."):
            heads[name[: i + 1]] += name[i + 1 :] in targets
    most = max(heads.values(), default=0)
    if not most or 2 * most < len(targets):
        return []
    return sorted((head for head, count in heads.items() if count == most), reverse=True)[:3]


def _plain(name: str) -> str:
    """The name of the weight that a weight norm's magnitude or direction stands for."""
    return re.sub(r"_[gv]$", "", re.sub(r"parametrizations\.([^.]+)\.original[01]$", r"\1", name))


def first(names: list[str], separator: str = ", ", count: int = 3) -> str:
    more = [f"… {len(names) - count} more"] if len(names) > count else []
    return separator.join(names[:count] + more)
