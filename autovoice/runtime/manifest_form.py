"""The form of a manifest's content, which may come from anywhere: names, types, bounds, and wires that meet."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from typing import Any

from autovoice.dims.expressions import ExprError, symbols
from autovoice.spec.names import DTYPES

#: no dim or axis that a machine can hold is larger
_LARGEST = 1 << 48
_MOST_AXES = 32
#: each is opened, and stays open while the folder is loaded
_MOST_COMPONENTS = 500
_MOST_BESIDE = 20
_LONGEST_SHAPE = 500
_DIM = {"min", "opt", "max", "formula", "profile", "multiple", "buckets"}
_FILE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SHA256 = re.compile(r"[0-9a-f]{64}")


def faults(data: Mapping[str, Any]) -> Iterator[str]:
    """Where it is not as a build writes it, and what stands there; nothing for a whole manifest."""
    if not _is_text(data["pipeline"]):
        yield _at("pipeline", data["pipeline"])
    for key in ("dims", "tensors", "contract"):
        yield from _mapping(key, data[key])
    for key in ("inputs", "outputs"):
        if not isinstance(data[key], list) or not all(map(_is_text, data[key])):
            yield _at(key, data[key])
    yield from _steps(data.get("steps", {}))
    yield from _components(data["components"])
    for name, dim in data["dims"].items():
        yield from _dim(f"dims.{name}", dim, data["dims"])
    yield from _circle(data["dims"])
    for name, tensor in data["tensors"].items():
        yield from _tensor(f"tensors.{name}", tensor, data["dims"])
    yield from _wires(data)


def _steps(steps: Any) -> Iterator[str]:
    yield from _mapping("steps", steps)
    for name, key in steps.items():
        if not _matches(_SHA256, key):  # it names a folder of the store
            yield _at(f"steps.{name}", key)


def _components(components: Any) -> Iterator[str]:
    if not isinstance(components, list) or not 0 < len(components) <= _MOST_COMPONENTS:
        yield _at("components", components)
    for i, c in enumerate(components):
        where = f"components[{i}]"
        yield from _mapping(where, c)
        if not _matches(_NAME, c.get("name")):
            yield _at(f"{where}.name", c.get("name"))
        yield from _engine(where, c)
        yield from _mapping(f"{where}.inputs", c.get("inputs"), _is_text)
        yield from _mapping(f"{where}.outputs", c.get("outputs"), _is_output)
        yield from _policy(f"{where}.on_mismatch", c.get("on_mismatch", {}))
    yield from _twice("component", (c["name"] for c in components))
    engines = [e for c in components for e in (c, c.get("on_mismatch", {}).get("fallback")) if e]
    yield from _twice("file", (name for e in engines for name in (e["file"], *e.get("beside", {}))))


def _policy(where: str, entry: Any) -> Iterator[str]:
    yield from _mapping(where, entry)
    if not isinstance(entry.get("policy", ""), str):
        yield _at(f"{where}.policy", entry["policy"])
    if entry.get("fallback") is not None:
        yield from _mapping(f"{where}.fallback", entry["fallback"])
        yield from _engine(f"{where}.fallback", entry["fallback"])


def _engine(where: str, entry: Mapping[str, Any]) -> Iterator[str]:
    beside, backend = entry.get("beside", {}), entry.get("backend")
    yield from _mapping(f"{where}.beside", beside)
    if len(beside) > _MOST_BESIDE:
        yield _at(f"{where}.beside", beside)
    for name, digest in {**beside, entry.get("file"): entry.get("sha256")}.items():
        if not _matches(_FILE, name):
            yield f"file {name!r} is not a plain name in this folder"
        if not _matches(_SHA256, digest):
            yield _at(f"{where}: the sha256 of {name}", digest)
    yield from _mapping(f"{where}.backend", backend)
    for key in ("name", "loader"):
        if not _is_text(backend.get(key)):  # type: ignore[union-attr]  # a mapping by now
            yield _at(f"{where}.backend.{key}", backend.get(key))  # type: ignore[union-attr]
    yield from _mapping(f"{where}.backend.options", backend.get("options"))  # type: ignore[union-attr]


def _dim(where: str, dim: Any, dims: Mapping[str, Any]) -> Iterator[str]:
    yield from _mapping(where, dim)
    for key in dim.keys() - _DIM:
        yield _at(f"{where}.{key}", dim[key])
    for key, low in (("min", 0), ("opt", 0), ("max", 0), ("multiple", 1)):
        if not _is_size(dim.get(key, 1 if key == "multiple" else None), low):
            yield _at(f"{where}.{key}", dim.get(key))
    for key in ("formula", "profile"):
        if dim.get(key) is not None and not _is_expression(dim[key], dims):
            yield _at(f"{where}.{key}", dim[key])
    buckets = dim.get("buckets", [])
    if not isinstance(buckets, list) or not all(_is_size(b) for b in buckets):
        yield _at(f"{where}.buckets", buckets)


def _tensor(where: str, tensor: Any, dims: Mapping[str, Any]) -> Iterator[str]:
    yield from _mapping(where, tensor)
    if tensor.get("dtype") not in DTYPES:
        yield _at(f"{where}.dtype", tensor.get("dtype"))
    shape = tensor.get("shape")
    if not isinstance(shape, list) or len(shape) > _MOST_AXES:
        yield _at(f"{where}.shape", shape)
    for axis in shape:  # a list by now
        if not _is_size(axis) and not _is_expression(axis, dims):
            yield _at(f"{where}.shape", axis)
    if not _is_default(tensor.get("default"), str(tensor["dtype"])):
        yield _at(f"{where}.default", tensor["default"])


def _circle(dims: Mapping[str, Any]) -> Iterator[str]:
    """Formulas that read each other have no value."""
    formulas = {name: symbols(d["formula"]) for name, d in dims.items() if d.get("formula")}
    try:
        TopologicalSorter(formulas).prepare()
    except CycleError as e:
        yield f"dims.{e.args[1][0]} is computed from itself"


def _wires(data: Mapping[str, Any]) -> Iterator[str]:
    """Every wire is declared, and made before it is read."""
    made = set(data["inputs"])
    for c in data["components"]:
        for wire in c["inputs"].values():
            if wire not in made:
                yield f"{c['name']} reads '{wire}', which nothing before it makes"
        made |= {o["wire"] for o in c["outputs"].values()}
    for wire in (*sorted(made), *data["outputs"]):
        if wire not in data["tensors"] or wire not in made:
            yield f"there is no tensor '{wire}'"


# -- one value -----------------------------------------------------------------------------------


def _mapping(where: str, value: Any, holds: Any = None) -> Iterator[str]:
    if not isinstance(value, dict) or (holds is not None and not all(map(holds, value.values()))):
        yield _at(where, value)


def _twice(what: str, names: Iterable[str]) -> Iterator[str]:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            yield f"{what} '{name}' is there twice"
        seen.add(name)


def _at(where: str, value: Any) -> str:
    """Strings of others are shown by `repr`: they may hold what moves a terminal's cursor."""
    text = repr(value)
    return f"{ascii(where)[1:-1]} is {text if len(text) <= 60 else text[:59] + '…'}"


def _matches(pattern: re.Pattern[str], value: Any) -> bool:
    return isinstance(value, str) and pattern.fullmatch(value) is not None


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= 500 and value.isprintable()


def _is_output(value: Any) -> bool:
    return isinstance(value, dict) and _is_text(value.get("wire"))


def _is_size(value: Any, low: int = 0) -> bool:
    return type(value) is int and low <= value <= _LARGEST


def _is_expression(value: Any, dims: Mapping[str, Any]) -> bool:
    if not isinstance(value, str) or len(value) > _LONGEST_SHAPE:
        return False
    try:
        return symbols(value) <= dims.keys()
    except (ExprError, ValueError, RecursionError, MemoryError):  # the last two are the parser's, of many brackets
        return False


def _is_default(value: Any, dtype: str) -> bool:
    if value is None or isinstance(value, bool):
        return True
    if not isinstance(value, int | float):
        return False
    return dtype.startswith("float") or abs(value) <= _LARGEST
