"""What stands beside an engine: what it was built with and for, and its inputs and outputs, readable without a GPU."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from autovoice.errors import ArtefactError

SCHEMA = 1


def sidecar_of(engine: Path) -> Path:
    return engine.with_name(f"{engine.name}.json")


def layers_of(engine: Path) -> Path:
    return engine.with_name(f"{engine.name}.layers.json")


def write_sidecar(engine: Path, data: Mapping[str, Any]) -> Path:
    path = sidecar_of(engine)
    path.write_text(json.dumps({"schema": SCHEMA, **data}, indent=1) + "\n")
    return path


def read_sidecar(engine: Path) -> dict[str, Any]:
    """Raises ArtefactError where there is none that this version can read."""
    path = sidecar_of(engine)
    try:
        data = json.loads(path.read_bytes())
    except (OSError, ValueError) as e:
        raise ArtefactError(f"{path}: cannot be read: {e}", "copy the whole folder, or build it again") from e
    if not isinstance(data, dict) or data.get("schema") != SCHEMA:
        raise ArtefactError(f"{path}: is not what was written", "build it again with this version")
    return data
