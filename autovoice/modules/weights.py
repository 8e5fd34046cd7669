"""Weights from checkpoint files into modules, and out of weight norm."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize, remove_weight_norm
from torch.nn.utils.parametrizations import _WeightNorm
from torch.nn.utils.weight_norm import WeightNorm

from autovoice.errors import CheckpointError, nearest
from autovoice.modules.checkpoint import State, read_checkpoint
from autovoice.modules.weight_names import check_names, check_types, first, tied, unwrapped, without_wrappers_of

# Both spellings of weight norm: the hook's `conv.weight_g` and the parametrization's `…original0`.
HOOK_FORM = re.compile(r"(?P<stem>(?:.*\.)?)(?P<name>[^.]+)_g")
PARAMETRIZED_FORM = re.compile(r"(?P<stem>(?:.*\.)?)parametrizations\.(?P<name>[^.]+)\.original0")


def load_checkpoint(
    module: nn.Module, path: str | Path, key: str | None = None, prefix: str = "", strict: bool = True
) -> dict[str, int]:
    """Copy the weights in `path` into `module`, which stays as it is if anything is wrong.

    `path` is a `.safetensors` file, one written by `torch.save`, or the index of several; no code from it is run.
    `key` selects a state dict nested in the file (`generator`, `net.decoder`), `prefix` the parameters below a
    name (`flow.`), which is stripped. What torch.compile and DataParallel put into names is left out; of weights
    that the module shares, the file may have one. Weight norm in the file is folded where the module has
    plain weights. With `strict` off,
    parameters missing from the file keep their values; at least one must be found, and shapes must agree.
    Returns how many were loaded, missing and extra. Raises CheckpointError.
    """
    path = Path(path)
    wanted = {name: value for name, value in module.state_dict().items() if isinstance(value, Tensor)}
    found = unwrapped(_below(prefix, read_checkpoint(path, key), path), wanted)
    state = tied(_match_weight_norm(found, wanted, path), wanted, path)
    _check_shapes(state, wanted, path)
    check_types(state, wanted, path)
    check_names(state, wanted, f"'{path}' does not fit {type(module).__name__}", strict, path)
    common = {name: state[name] for name in wanted if name in state}
    module.load_state_dict(common, strict=False)
    return {"loaded": len(common), "missing": len(wanted) - len(common), "extra": len(state) - len(common)}


def fold_weight_norm(module: nn.Module) -> int:
    """Replace every weight norm in the tree by the plain weight it computes, in place; returns how many.

    Exporters leave it in the graph, where it doubles the file and hides weights from quantizers.
    """
    return sum(_fold_hooks(part) + _fold_parametrizations(part) for part in module.modules())


def _fold_hooks(module: nn.Module) -> int:
    names = [hook.name for hook in module._forward_pre_hooks.values() if isinstance(hook, WeightNorm)]
    for name in names:
        remove_weight_norm(module, name)
    return len(names)


def _fold_parametrizations(module: nn.Module) -> int:
    if not parametrize.is_parametrized(module):
        return 0
    chains = module.parametrizations
    assert isinstance(chains, nn.ModuleDict)
    names = [name for name, chain in chains.items() if any(isinstance(p, _WeightNorm) for p in chain)]
    for name in names:
        parametrize.remove_parametrizations(module, name)
    return len(names)


# Weight norm in the file --------------------------------------------------------------------------------


def _match_weight_norm(state: State, wanted: Mapping[str, Tensor], path: Path) -> State:
    """Fold weight norm where the module has plain weights, respell it where it has the other form."""
    matched = dict(state)
    for magnitude, direction, plain, respelled in _weight_norms(state):
        if plain in wanted and plain not in state:
            matched[plain] = _folded(matched.pop(magnitude), matched.pop(direction), f"{plain} in '{path}'")
        elif magnitude not in wanted and respelled[0] in wanted:
            for old, new in zip((magnitude, direction), respelled, strict=True):
                matched[new] = matched.pop(old)
    return matched


def _weight_norms(state: State) -> Iterator[tuple[str, str, str, tuple[str, str]]]:
    """Names of magnitude and direction, of the plain weight, and of the pair in the other form."""
    for name in state:
        if match := HOOK_FORM.fullmatch(name):
            direction = name[:-1] + "v"
            other = "{stem}parametrizations.{name}.original0", "{stem}parametrizations.{name}.original1"
        elif match := PARAMETRIZED_FORM.fullmatch(name):
            direction = name[:-1] + "1"
            other = "{stem}{name}_g", "{stem}{name}_v"
        else:
            continue
        if direction in state:
            parts = match.groupdict()
            respelled = other[0].format(**parts), other[1].format(**parts)
            yield name, direction, "{stem}{name}".format(**parts), respelled


def _folded(magnitude: Tensor, direction: Tensor, where: str) -> Tensor:
    """g · v / ‖v‖ (arXiv:1602.07868, equation 2), the norm over every axis on which g has size 1."""
    if magnitude.ndim == 1 and direction.ndim > 1:
        magnitude = magnitude.reshape(-1, *(1,) * (direction.ndim - 1))
    sizes = magnitude.shape or (1,) * direction.ndim  # a scalar is one norm over the whole weight
    axes = [axis for axis, size in enumerate(sizes) if size == 1]
    fits = len(sizes) == direction.ndim and all(
        axis in axes or size == direction.shape[axis] for axis, size in enumerate(sizes)
    )
    if not fits or not axes:
        raise CheckpointError(
            f"weight norm of {where}: magnitude {tuple(magnitude.shape)}, direction {tuple(direction.shape)}",
            "the file is damaged or normalised in a way PyTorch does not; save it with weight norm removed",
        )
    g, v = magnitude.to(_wide(magnitude)), direction.to(_wide(direction))
    return v * (g / torch.linalg.vector_norm(v, dim=axes, keepdim=True))


def _wide(value: Tensor) -> torch.dtype:
    """Norms of half-precision weights are summed in float32."""
    return torch.promote_types(value.dtype, torch.float32)


# Comparing ----------------------------------------------------------------------------------------------


def _below(prefix: str, state: State, path: Path) -> State:
    if not prefix:
        return state
    prefix = prefix.rstrip(".") + "."
    bare = without_wrappers_of(state)
    for held in (state, {bare[name]: value for name, value in state.items()}):
        below = {name.removeprefix(prefix): value for name, value in held.items() if name.startswith(prefix)}
        if below:
            break
    else:
        heads = {name.partition(".")[0] for name in state}
        raise CheckpointError(
            f"no parameter in '{path}' lies below prefix '{prefix}'",
            f"set prefix to where the parameters are, or leave it out; {nearest(prefix[:-1], heads)}",
        )
    return below


def _check_shapes(state: State, wanted: Mapping[str, Tensor], path: Path) -> None:
    wrong = [
        f"{name}: got {tuple(state[name].shape)}, expected {tuple(value.shape)}"
        for name, value in wanted.items()
        if name in state and state[name].shape != value.shape
    ]
    if wrong:
        raise CheckpointError(
            f"{len(wrong)} of {len(wanted)} parameters have another shape in '{path}': {first(wrong, '; ')}",
            "set the module's sizes to the checkpoint's; strict=false does not skip shapes",
        )
