"""The file beside an engine: what it was built with and for, its inputs and outputs, readable without a GPU."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autovoice.errors import ArtefactError
from autovoice.spec import POINTS
from autovoice.store.json_files import parse_json

if TYPE_CHECKING:
    from autovoice.backends.engine import Engine

SCHEMA = 1
_LARGEST = 1 << 48


def sidecar_of(engine: Path) -> Path:
    return engine.with_name(f"{engine.name}.json")


def layers_of(engine: Path) -> Path:
    return engine.with_name(f"{engine.name}.layers.json")


def write_sidecar(engine: Path, data: Mapping[str, Any]) -> Path:
    path = sidecar_of(engine)
    path.write_text(json.dumps({"schema": SCHEMA, **data}, indent=1) + "\n")
    return path


def read_sidecar(engine: Engine) -> dict[str, Any]:
    """Raises ArtefactError where there is none that this version can read."""
    path = engine.with_name(f"{engine.name}.json")
    try:
        data = parse_json(path.read_bytes())
    except (OSError, ValueError) as e:
        raise ArtefactError(f"{path}: cannot be read: {e}", "copy the whole folder, or build it again") from e
    if not isinstance(data, dict) or data.get("schema") != SCHEMA:
        raise ArtefactError(f"{path}: is not what was written", "build it again with this version")
    for key, is_right in _FORM.items():
        if not is_right(data.get(key)):
            raise ArtefactError(f"{path}: is not what was written, at '{key}'", "build it again with this version")
    return data


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and value.isprintable()


def _is_bool(value: Any) -> bool:
    return isinstance(value, bool)


def _is_shape(value: Any) -> bool:
    return isinstance(value, list) and all(type(n) is int and -1 <= n <= _LARGEST for n in value)


def _are_tensors(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(t, dict) and _is_text(t.get("dtype")) and _is_shape(t.get("shape")) for t in value.values()
    )


def _is_profile(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(p, dict) and all(_is_shape(p.get(point)) for point in POINTS) for p in value.values()
    )


_FORM: Mapping[str, Callable[[Any], bool]] = {
    "tool": _is_text,
    "version": _is_text,
    "gpu": lambda v: v is None or _is_text(v),
    "compute_capability": lambda v: isinstance(v, list) and all(map(_is_text, v)),
    "hardware_compatible": _is_bool,
    "version_compatible": _is_bool,
    "inputs": _are_tensors,
    "outputs": _are_tensors,
    "profiles": lambda v: isinstance(v, list) and all(map(_is_profile, v)),
}
