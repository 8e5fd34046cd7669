"""A check that forward() answers alike twice: a graph draws no numbers of its own and keeps nothing between calls."""

from __future__ import annotations

import random
import traceback
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from autovoice.errors import ExportError
from autovoice.measure.parity import unlike
from autovoice.modules import loading as calling
from autovoice.modules.loading import call

Arrays = dict[str, np.ndarray]
_TORCH = str(Path(torch.__file__).parent)
_NO_STATE = "make it an input and an output: an engine keeps nothing between calls"
#: what every module has among its attributes
_COMMON = {*vars(nn.Module()), "__annotations__"}


def repeatable(module: nn.Module, feeds: Mapping[str, Tensor], outputs: Sequence[str]) -> tuple[Arrays, list[str]]:
    """What forward() answers the first time, and notes about what it changed without effect.

    It is called again with the same inputs. Raises ExportError where the answers differ beyond rounding: by random
    numbers, with the operator and the line that draws them, or by state, with the buffer or attribute that holds it.
    """
    state, seeds = _State(module), _Seeds()
    first = _answers(module, feeds, outputs)
    changed, draws = state.changed(), _Draws()
    with draws:
        second = _again(module, feeds, outputs)
    if unlike(first, second) is None:
        kept = (what for what in changed if what not in state.grown())  # a table that is made when it is needed
        return first, [f"forward() changes {what}, on which no output depends: the engine leaves it" for what in kept]
    seeds.restore()  # the random numbers of the first call, whatever state the others have left behind
    name = type(module).__name__
    if unlike(first, _again(module, feeds, outputs)) is None:
        by = ", ".join(draws.found) or "numbers of numpy's or Python's generator"
        fix = "F.dropout(x, p, training=self.training), or " if "dropout" in by or "bernoulli" in by else ""
        raise ExportError(f"forward() of {name} is random ({by})", f"{fix}make the noise an input")
    held = changed or state.attributes()
    if not held:
        raise ExportError(f"forward() of {name} answers otherwise to the same inputs the second time", _NO_STATE)
    raise ExportError(f"forward() of {name} changes {' and '.join(held)}, and its outputs with it", _NO_STATE)


def _answers(module: nn.Module, feeds: Mapping[str, Tensor], outputs: Sequence[str]) -> Arrays:
    """Of inputs that forward() may overwrite; copies, for an output may be a buffer."""
    own = {name: value.clone() for name, value in feeds.items()}
    return {name: value.numpy().copy() for name, value in call(module, own, outputs).items()}


def _again(module: nn.Module, feeds: Mapping[str, Tensor], outputs: Sequence[str]) -> Arrays:
    try:
        return _answers(module, feeds, outputs)
    except ExportError as e:
        raise ExportError(f"{e.fact}, but only when called once more", _NO_STATE) from e


class _Seeds:
    """The generators as they are now."""

    def __init__(self) -> None:
        self.torch, self.numpy, self.python = torch.get_rng_state(), np.random.get_state(), random.getstate()

    def restore(self) -> None:
        torch.set_rng_state(self.torch)
        np.random.set_state(self.numpy)
        random.setstate(self.python)


class _Draws(TorchDispatchMode):
    """Has every random operator draw once more, so that a seed set in forward() does not hide it; finds out where."""

    def __init__(self) -> None:
        super().__init__()
        self.found: dict[str, None] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if torch.Tag.nondeterministic_seeded not in func.tags:
            return result
        drawn = [t.clone() for t in tree_leaves(result) if isinstance(t, Tensor)]
        result = func(*args, **(kwargs or {}))
        other = [t for t in tree_leaves(result) if isinstance(t, Tensor)]
        if not all(torch.equal(a, b) for a, b in zip(drawn, other, strict=True)):  # attention without dropout, too
            self.found[f"{func.name().partition('::')[2].partition('.')[0]}{_line()}"] = None
        return result


def _line() -> str:
    """`, mods.py:6` of the innermost line that is the model's own."""
    frames = traceback.extract_stack()
    start = max((i for i, f in enumerate(frames) if f.filename == calling.__file__), default=0)
    own = [f for f in frames[start + 1 :] if not f.filename.startswith((_TORCH, __file__))]
    return f", {Path(own[-1].filename).name}:{own[-1].lineno}" if own else ""


class _State:
    """What a module holds before a call. Of buffers there is a copy, of parameters the count of writes."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.buffers = {name: value.clone() for name, value in module.named_buffers()}
        self.parameters = {name: (value, value._version) for name, value in module.named_parameters()}
        self.others = {name: (value, _mark(value)) for name, value in _attributes(module)}

    def changed(self) -> list[str]:
        """Buffers that were there before and have other values now, and parameters that were written to."""
        buffers, parameters = dict(self.module.named_buffers()), dict(self.module.named_parameters())
        found = [f"buffer '{n}'" for n, old in self.buffers.items() if n in buffers and not _same(old, buffers[n])]
        for name, (old, version) in self.parameters.items():
            if name in parameters and (parameters[name] is not old or old._version != version):
                found.append(f"parameter '{name}'")
        return found

    def grown(self) -> list[str]:
        """Of the buffers those that have another shape now."""
        now = dict(self.module.named_buffers())
        return [f"buffer '{n}'" for n, old in self.buffers.items() if n in now and now[n].shape != old.shape]

    def attributes(self) -> list[str]:
        """What is neither and was set or grew."""
        now = dict(_attributes(self.module))
        kept = (n for n, (_, mark) in self.others.items() if n not in now or _mark(now[n]) != mark)
        return [f"attribute '{n}'" for n in (*kept, *(now.keys() - self.others.keys()))]


def _same(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and a.dtype == b.dtype and bool(((a == b) | ((a != a) & (b != b))).all())


def _attributes(module: nn.Module) -> list[tuple[str, Any]]:
    every = ((prefix, part) for prefix, part in module.named_modules())
    return [(f"{p}.{n}" if p else n, v) for p, part in every for n, v in vars(part).items() if n not in _COMMON]


def _mark(value: Any) -> Any:
    """Another one when the value was replaced or written to; values are kept meanwhile, so that none is mistaken."""
    if isinstance(value, Tensor):
        return id(value), None if value.is_inference() else value._version
    if isinstance(value, list | dict | set | deque):
        return id(value), len(value)
    return value if isinstance(value, int | float | str) else id(value)
