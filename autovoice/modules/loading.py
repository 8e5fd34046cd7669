"""A component's torch module from its record: target, keyword arguments, seed, checkpoint."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate

from autovoice.errors import AutovoiceError, ExportError, first_line, nearest
from autovoice.modules.outputs import named_outputs
from autovoice.modules.weights import fold_weight_norm, load_checkpoint
from autovoice.spec import DTYPES

if TYPE_CHECKING:
    from autovoice.spec.fields import ModuleField

TORCH_DTYPES = {"bool": torch.bool} | {n: getattr(torch, n) for n in DTYPES if n != "bool"}


def load_module(
    made: ModuleField, inputs: Collection[str], files: Mapping[str, Path]
) -> tuple[torch.nn.Module, dict[str, Any]]:
    """The module in eval mode, weights loaded or seeded, weight norm folded; and how its weights came about.

    Raises ExportError, also where its forward does not take exactly these inputs.
    """
    target, kwargs = made["model"]["target"], made["model"]["kwargs"]
    torch.manual_seed(made["seed"])
    try:
        found = instantiate({"_target_": target, **kwargs}, _convert_="all")
    except InstantiationException as e:
        cause, fix = e.__cause__ or e, "see `model:` of the component; its keys are the constructor's arguments"
        if isinstance(cause, AutovoiceError):  # a module of ours knows better what is missing
            raise cause from e
        if isinstance(cause, ImportError):  # Hydra's wrapping of it says less
            cause, fix = cause.__cause__ or cause, f"importing {target.rpartition('.')[0]} raised this"
            _check_present(target)
        raise ExportError(
            f"{target}({_format_arguments(kwargs)}) cannot be made: {type(cause).__name__}: {first_line(cause)}", fix
        ) from e
    module = _plain(found, target)
    weights: dict[str, Any] = {"seed": made["seed"]}
    if (c := made["checkpoint"]) is not None:
        weights = {"checkpoint": files["checkpoint"].name} | load_checkpoint(
            module, files["checkpoint"], c["key"], c["prefix"], c["strict"]
        )
    fold_weight_norm(module)
    module = module.eval().requires_grad_(False)
    _check_arguments(module, target, inputs)
    return module, weights


def _plain(made: Any, target: str) -> torch.nn.Module:
    """The module itself, out of what torch.compile and data parallelism wrap it in. Raises ExportError for others."""
    if not isinstance(made, torch.nn.Module):
        kind = type(made).__name__
        fix = "`_target_` names a module class, or a function that returns a module"
        if isinstance(made, torch.jit.ScriptFunction):
            fix = _SCRIPTED
        elif isinstance(made, Mapping):  # torch.load of a state dict
            fix = f"{fix}; weights are given as `checkpoint:` beside it"
        elif isinstance(made, torch.export.ExportedProgram):
            fix = f"{fix}; of a program, onnx: takes what torch.onnx.export makes of it"
        raise ExportError(f"{target} made a {kind}, not a torch.nn.Module", fix)
    module = unwrapped(made)
    for name, part in module.named_modules():
        if isinstance(part, torch.jit.ScriptModule):
            where = f"'{name}' of {target}" if name else f"what {target} made"
            raise ExportError(f"{where} is TorchScript, which has no Python code to export", _SCRIPTED)
    return module


_SCRIPTED = "export it with torch.onnx.export(module, args, 'model.onnx', dynamo=False), and give onnx: model.onnx"
#: what wraps a module, by its class, which need not be imported for that, and the child that it wraps
_WRAPPERS = {"OptimizedModule": "_orig_mod", "DataParallel": "module", "DistributedDataParallel": "module"}


def unwrapped(module: torch.nn.Module) -> torch.nn.Module:
    """The module without wrappers, around it or around its parts, which it keeps; and not compiled in place."""
    kind = type(module)
    if kind.__module__.startswith("torch.") and kind.__name__ in _WRAPPERS:
        inner: torch.nn.Module = getattr(module, _WRAPPERS[kind.__name__])
        return unwrapped(inner)
    if isinstance(module, torch.jit.ScriptModule):
        return module
    if module._compiled_call_impl is not None:
        module._compiled_call_impl = None
    for name, part in module._modules.items():
        if part is not None and (plain := unwrapped(part)) is not part:
            setattr(module, name, plain)
    return module


def _check_present(target: str) -> None:
    module, _, name = target.rpartition(".")
    loaded = sys.modules.get(module)
    if loaded is not None and not hasattr(loaded, name):
        made = [n for n, v in vars(loaded).items() if getattr(v, "__module__", None) == module]
        raise ExportError(f"_target_ '{target}': {module} has no '{name}'", nearest(name, made))


def _check_arguments(module: torch.nn.Module, target: str, declared: Collection[str]) -> None:
    parameters = inspect.signature(module.forward).parameters.values()
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return
    names = {p.name for p in parameters}
    for name in declared:
        if name not in names:
            raise ExportError(
                f"forward() of {target} has no argument '{name}'",
                f"inputs: {{<argument>: <wire>}}; {nearest(name, names)}",
            )
    required = {p.name for p in parameters if p.default is p.empty and p.kind is not p.VAR_POSITIONAL}
    for name in sorted(required - set(declared)):
        raise ExportError(
            f"forward() of {target} needs '{name}', which is not in `inputs:`",
            f"declared: {', '.join(declared)}",
        )


def call(
    module: torch.nn.Module,
    feeds: Mapping[str, torch.Tensor],
    outputs: Sequence[str],
    without_gradients: Callable[[], AbstractContextManager[Any]] = torch.inference_mode,
) -> dict[str, torch.Tensor]:
    """Run forward by argument names; the outputs under their declared names, in the order forward returns them.

    A tuple's outputs take the declared names by position, a dictionary's by its keys; nested ones are flattened.
    """
    name = type(module).__name__
    try:
        with without_gradients():
            got = module(**feeds)
    except Exception as e:
        shapes = ", ".join(f"{k} {list(v.shape)}" for k, v in feeds.items())
        raise ExportError(f"forward() of {name} raised {type(e).__name__}: {first_line(e)}", f"given {shapes}") from e
    return named_outputs(name, got, outputs)


def _format_arguments(kwargs: Mapping[str, Any]) -> str:
    return ", ".join(f"{k}={v!r}" for k, v in kwargs.items())
