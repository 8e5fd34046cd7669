"""The header of a torch engine's file, read without torch: which module it is and what making it imports.

No pickle: safetensors, the record as JSON in its metadata. Reading it imports nothing; `code_in` says what loading
would.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

from autovoice.errors import ArtefactError
from autovoice.spec.names import DTYPES
from autovoice.store.json_files import parse_json

if TYPE_CHECKING:
    from autovoice.backends.engine import Engine
    from autovoice.spec.fields import TargetField

KEY = "autovoice"
#: bytes of a header: names, shapes and this record, no weights
_MOST = 100_000_000
_LENGTH = 8


@dataclass(frozen=True)
class Record:
    """How to make a module and how to call it: dtypes of inputs and outputs by name, outputs as forward orders them.

    `kept` inputs stay as they are when `dtype` is float16; `changed` ones are overwritten by forward.
    """

    target: str
    kwargs: Mapping[str, Any]
    seed: int
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    dtype: str
    kept: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)

    @property
    def model(self) -> TargetField:
        return {"target": self.target, "kwargs": self.kwargs}

    @property
    def targets(self) -> tuple[str, ...]:
        """Dotted names of everything that making the module imports by name."""
        nested = (text for text, is_target in strings(self.kwargs) if is_target)
        return tuple(dict.fromkeys([self.target, *nested]))


def read_record(engine: Engine) -> Record:
    """Raises ArtefactError for what is no torch engine."""
    try:
        text = _metadata(engine).get(KEY)
        if text is None:
            raise ArtefactError(f"{engine}: is no torch engine: its metadata has no '{KEY}'", "build it again")
        return _record(parse_json(text))
    except (OSError, ValueError, TypeError) as e:
        raise ArtefactError(f"{engine}: is not a torch engine that can be read: {e}", "build it again") from e


def strings(value: Any, is_target: bool = False) -> Iterator[tuple[str, bool]]:
    """Every string in a module's arguments, and whether it is a target."""
    if isinstance(value, str):
        yield value, is_target
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from strings(key)
            yield from strings(item, key == "_target_")
    elif isinstance(value, list | tuple):
        for item in value:
            yield from strings(item)


def _metadata(engine: Engine) -> dict[str, Any]:
    """Of the header alone: eight bytes of length, then JSON."""
    with open(engine, "rb") as file:
        length = int.from_bytes(file.read(_LENGTH), "little")
        header = json.loads(file.read(length)) if 0 < length <= _MOST else None
    found = header.get("__metadata__", {}) if isinstance(header, dict) else None
    if not isinstance(found, dict):
        raise ValueError("it has no header of safetensors")
    return found


def _record(data: Any) -> Record:
    if not isinstance(data, dict):
        raise ValueError("its record is not what was written")
    record = Record(**data)
    kinds = {"target": str, "kwargs": dict, "seed": int, "dtype": str, "inputs": dict, "outputs": dict}
    for f in fields(record):
        value = getattr(record, f.name)
        if not isinstance(value, kinds.get(f.name, list)):
            raise ValueError(f"'{f.name}' of its record is {value!r:.40}")
    if not all(isinstance(name, str) for name in (*record.kept, *record.changed)):
        raise ValueError("a name in its record is no text")
    for dtype in (*record.inputs.values(), *record.outputs.values()):
        if dtype not in DTYPES:
            raise ValueError(f"its record has a tensor of {dtype!r:.40}")
    for target in record.targets:
        if not all(part.isidentifier() for part in target.split(".")):
            raise ValueError(f"{target!r:.60} names nothing that can be imported")
    if not 0 <= record.seed < 1 << 63:
        raise ValueError(f"its seed is {record.seed!r:.40}")
    return record
