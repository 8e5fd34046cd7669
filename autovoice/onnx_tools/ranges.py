"""Ranges as a JSON file that a person reads and compares: {model, samples, method, ranges: {tensor: [low, high]}}."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np

from autovoice.errors import CalibrationError, nearest
from autovoice.store.atomic import write_atomically
from autovoice.store.json_files import read_json

_LARGEST = float(np.finfo(np.float32).max)
Ranges = Mapping[str, tuple[float, float]]


def method_of(tensor: str, methods: Mapping[str, Any]) -> Any:
    """What the first pattern that matches says; `default` for the rest."""
    own = (m for pattern, m in methods.items() if pattern != "default" and fnmatchcase(tensor, pattern))
    return next(own, methods["default"])


def matched(methods: Mapping[str, Any], tensors: Collection[str]) -> list[str]:
    """The patterns that mean one of these tensors."""
    return [p for p in methods if any(fnmatchcase(t, p) for t in tensors)]


def write_ranges(path: Path, model: str, samples: int | None, method: Any, ranges: Ranges) -> None:
    """One tensor a line, in the order of their names, as float32 numbers that read back to the same bits."""
    lines = [f"  {json.dumps(t)}: [{_number(low)}, {_number(high)}]" for t, (low, high) in sorted(ranges.items())]
    head = {"model": model, "samples": samples, "method": method}
    text = ",\n".join(f" {json.dumps(k)}: {json.dumps(v)}" for k, v in head.items())
    body = "{\n" + ",\n".join(lines) + "\n }" if lines else "{}"
    write_atomically(path, f'{{\n{text},\n "ranges": {body}\n}}\n'.encode())


def _number(value: float) -> str:
    return repr(float(np.float32(value)))


def read_ranges(path: Path) -> dict[str, tuple[float, float]]:
    """{tensor: (low, high)}. Raises CalibrationError for anything else."""
    return ranges_from(_json(path).get("ranges"), str(path))


def model_of(path: Path) -> str | None:
    """The digest of the graph that a file's ranges were made for, None where it does not say."""
    model = _json(path).get("model")
    return model if isinstance(model, str) else None


def _json(path: Path) -> Mapping[str, Any]:
    try:
        data = read_json(path, follow=True)
    except OSError as e:
        raise CalibrationError(f"{path}: cannot be read as ranges", e.strerror or str(e)) from e
    except ValueError as e:
        raise CalibrationError(f"{path}: cannot be read as ranges", str(e)) from e
    if not isinstance(data, dict):
        raise CalibrationError(f"{path}: holds no ranges", '{"ranges": {"tensor": [low, high]}}')
    return data


def ranges_from(data: Any, where: str) -> dict[str, tuple[float, float]]:
    """Plain data as ranges. Raises CalibrationError for a value that is not two finite numbers in order."""
    if not isinstance(data, Mapping):
        raise CalibrationError(f"{where}: holds no ranges", '{"ranges": {"tensor": [low, high]}}')
    found = {}
    for tensor, pair in data.items():
        pair = pair.tolist() if isinstance(pair, np.ndarray) else pair
        if not isinstance(pair, list | tuple) or len(pair) != 2 or not all(_is_number(v) for v in pair):
            fact = f"{where}: the range of '{tensor}' is {repr(pair)[:80]}"
            raise CalibrationError(fact, "two numbers, [low, high]")
        low, high = pair
        if not (-_LARGEST <= low <= high <= _LARGEST):
            fact = f"{where}: the range of '{tensor}' is [{_short(low)}, {_short(high)}]"
            raise CalibrationError(fact, "finite, low ≤ high")
        found[str(tensor)] = (float(low), float(high))
    return found


def _short(value: Any) -> str:
    """As a float, or the beginning of a whole number that is too large for one."""
    try:
        return str(float(value))
    except OverflowError:
        return f"{value >> (value.bit_length() - 64)}…"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)


def check_complete(ranges: Ranges, tensors: Iterable[str], where: str) -> None:
    """Raise CalibrationError unless there is a range for each of these tensors and for nothing else."""
    wanted = list(tensors)
    missing, extra = [t for t in wanted if t not in ranges], [t for t in ranges if t not in wanted]
    if missing:
        more = f", and for {len(missing) - 1} more" if len(missing) > 1 else ""
        raise CalibrationError(f"{where}: has no range for '{missing[0]}'{more}", nearest(missing[0], ranges)[:300])
    if extra:
        fix = f"the ranges belong to another model; {nearest(extra[0], wanted)[:300]}"
        raise CalibrationError(f"{where}: '{extra[0]}' is no tensor of this model", fix)
