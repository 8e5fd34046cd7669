"""Calling what a configuration names by `_target_`."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autovoice.errors import AutovoiceError, CalibrationError, first_line, nearest

if TYPE_CHECKING:
    from autovoice.spec.fields import TargetField


def data_files(files: Mapping[str, Path]) -> dict[str, Path]:
    """Of a step's files those that are the calibration's data, by their own names."""
    return {name.removeprefix("data "): path for name, path in files.items() if name.startswith("data ")}


def called(where: str, target: TargetField, given: Mapping[str, Any]) -> Any:
    """What the target returns for its own keyword arguments and those of `given` that its signature has.

    Raises CalibrationError where it does not exist, does not take these arguments, or raises.
    """
    module, _, name = target["target"].rpartition(".")
    try:
        loaded = importlib.import_module(module)
    except Exception as e:  # code of the user's own may raise anything
        fact = f"{where}: importing {module} raised {type(e).__name__}: {first_line(e)}"
        raise CalibrationError(fact, "the full traceback is in the step's log") from e
    function = getattr(loaded, name, None)
    if not callable(function):
        made = [n for n, v in vars(loaded).items() if getattr(v, "__module__", None) == module and n[0] != "_"]
        raise CalibrationError(f"{where}: {module} has no '{name}'", nearest(name, made))
    parameters = inspect.signature(function).parameters
    wanted = {key: value for key, value in given.items() if key in parameters and key not in target["kwargs"]}
    try:
        bound = inspect.signature(function).bind(**target["kwargs"], **wanted)
    except TypeError as e:
        raise CalibrationError(f"{where}: {target['target']}: {e}", f"its arguments: {', '.join(parameters)}") from e
    try:
        return function(*bound.args, **bound.kwargs)
    except AutovoiceError:
        raise
    except Exception as e:  # code of the user's own may raise anything
        fact = f"{where}: {target['target']} raised {type(e).__name__}: {first_line(e)}"
        raise CalibrationError(fact, "the full traceback is in the step's log") from e
