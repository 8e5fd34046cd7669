"""The objects that an engine file may make: modules, and dataclasses that configure them.

The file is data that may come from anywhere, and Hydra calls whatever a `_target_` names, `os.system` too. Importing
and making modules of installed packages is the part of this that an engine needs.
"""

from __future__ import annotations

import dataclasses
import importlib
import typing
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import torch

from autovoice.backends.torch.record import strings
from autovoice.errors import AutovoiceError, first_line


def check_model(model: Mapping[str, Any], error: type[AutovoiceError]) -> None:
    """Raise `error` unless every target can be imported and makes a module, or is a dataclass among its arguments."""
    _check(model["target"], error, nested=False)
    for text, is_target in strings(model["kwargs"]):
        if "${" in text:  # resolved when the configuration was read: one that is left asks for code
            raise error(f"'{text}' among the arguments of {model['target']} is an interpolation", "write its value")
        if is_target:
            _check(text, error, nested=True)


def _check(target: str, error: type[AutovoiceError], nested: bool) -> None:
    try:
        found = _found(target)
    except Exception as e:  # whatever the imported code raises
        raise error(
            f"{target} cannot be imported: {type(e).__name__}: {first_line(e)}",
            "a torch engine needs the model's code: install its package, or put its folder on PYTHONPATH",
        ) from e
    if not (_makes_module(found) or (nested and isinstance(found, type) and dataclasses.is_dataclass(found))):
        raise error(
            f"{target} is not known to make a torch.nn.Module, and a torch engine makes nothing else",
            "name a module class, or a function of your own that says `-> torch.nn.Module`",
        )


def _found(target: str) -> Any:
    first, *rest = target.split(".")
    found: Any = importlib.import_module(first)
    for name in rest:
        if isinstance(found, ModuleType) and not hasattr(found, name):
            importlib.import_module(f"{found.__name__}.{name}")
        found = getattr(found, name)
    return found


def _makes_module(found: Any) -> bool:
    if isinstance(found, type):
        return issubclass(found, torch.nn.Module)
    if str(getattr(found, "__module__", "torch")).partition(".")[0] == "torch":  # some of its functions run source code
        return False
    try:
        made = typing.get_type_hints(found).get("return")
    except (NameError, TypeError):  # a name that only a type checker sees, or nothing that has hints
        return False
    return isinstance(made, type) and issubclass(made, torch.nn.Module)
