"""Where calibration samples come from: functions that yield arrays by name, named by `source: {_target_: …}`.

A source is called with the keyword arguments of its YAML and, where its signature has them, `files`
({name: path} of the calibration's `files:`), `component` (its name, "" at level pipeline) and `inputs`
({name: {dtype, shape, default, example}}). It yields {input: array}, or (name of the sample, {input: array}).
Whatever it yields is checked against the declaration afterwards.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from autovoice.config.dims import read_dims
from autovoice.errors import CalibrationError, ConfigError, Fault, choices, nearest
from autovoice.steps.inputs import draw, free_size, solved

Sample = tuple[str, dict[str, np.ndarray]]
Column = list[tuple[str, np.ndarray]]


def npz(files: Mapping[str, Path], component: str, inputs: Mapping[str, Any]) -> Iterator[Sample]:
    """Samples recorded as `component/input`, axis 0 counting them, or as `component/input/00007` one by one.

    A missing batch axis is added back. Raises CalibrationError for a component without data, and for a name that
    is no input of it.
    """
    if len(files) != 1:
        raise CalibrationError(f"calibration.files means {len(files)} files", "this source reads one npz")
    ((_, path),) = files.items()
    try:
        archive = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as e:
        raise CalibrationError(f"{path}: cannot be read as npz", str(e).splitlines()[0]) from e
    if isinstance(archive, np.ndarray):
        raise CalibrationError(f"{path}: is one array, not an npz", "np.savez(path, **{'component/input': array})")
    with archive:
        own = _recorded(archive.files, component, inputs, path)
        yield from _rows({i: _column(archive, path, names, len(inputs[i]["shape"])) for i, names in own.items()})


def _recorded(entries: Sequence[str], component: str, inputs: Mapping[str, Any], path: Path) -> dict[str, list[str]]:
    """{input: its entries}, of this component alone."""
    own: dict[str, list[str]] = {}
    for entry in sorted(entries):
        owner, _, rest = entry.partition("/")
        if owner == component:
            own.setdefault(rest.partition("/")[0], []).append(entry)
    if not own:
        has = {e.partition("/")[0] for e in entries}
        raise CalibrationError(f"{path}: has no samples of '{component}'", nearest(component, has))
    for name in own:
        if name not in inputs:
            raise CalibrationError(f"{path}: '{component}/{name}' is no input of it", nearest(name, inputs))
    return own


def _column(archive: Any, path: Path, names: Sequence[str], rank: int) -> Column:
    """All samples of one input."""
    column: Column = []
    for name in names:
        try:
            array = archive[name]
        except ValueError as e:
            fix = "plain arrays only, never pickled ones"
            raise CalibrationError(f"{path}: '{name}': {str(e).splitlines()[0]}", fix) from e
        single = name.count("/") > 1
        column += [(name, _batched(array, rank))] if single else _unstacked(array, rank, name, str(path))
    return column


def npy_folder(files: Mapping[str, Path], component: str, inputs: Mapping[str, Any]) -> Iterator[Sample]:
    """`input.npy` with stacked samples, or a folder `input/` with one file a sample, in the order of their names.

    All of it may stand in a folder named like the component.
    """
    columns: dict[str, Column] = {}
    for name, path in sorted(files.items()):
        parts = Path(name).with_suffix("").parts
        parts = parts[1:] if len(parts) > 1 and parts[0] == component else parts
        if path.suffix != ".npy":
            continue
        if parts[0] not in inputs:
            raise CalibrationError(f"{path}: '{parts[0]}' is no input of {component}", nearest(parts[0], inputs))
        array, rank = _npy(path), len(inputs[parts[0]]["shape"])
        found = [(name, _batched(array, rank))] if len(parts) > 1 else _unstacked(array, rank, name, str(path))
        columns.setdefault(parts[0], []).extend(found)
    if not columns:
        wanted = choices(f"{i}.npy or {i}/*.npy" for i in inputs)
        raise CalibrationError(f"no .npy file for {component} among {len(files)} files", f"expected {wanted}")
    yield from _rows(columns)


def _npy(path: Path) -> np.ndarray:
    try:
        return np.asarray(np.load(path, allow_pickle=False))
    except (OSError, ValueError, EOFError) as e:
        raise CalibrationError(f"{path}: cannot be read as npy", str(e).splitlines()[0]) from e


def _unstacked(array: np.ndarray, rank: int, name: str, path: str) -> Column:
    """[N, …] → N samples; where a sample's own batch axis was left out, it is put back."""
    if array.ndim not in (rank, rank + 1):
        fix = f"one sample has {rank} axes, and a first one counts samples; the batch axis may be left out"
        raise CalibrationError(f"{path}: '{name}' has shape {list(array.shape)}", fix)
    return [(f"{name}[{i}]", array[i : i + 1] if array.ndim == rank else array[i]) for i in range(len(array))]


def _batched(array: np.ndarray, rank: int) -> np.ndarray:
    return array[np.newaxis] if array.ndim == rank - 1 else array


def _rows(columns: Mapping[str, Column]) -> Iterator[Sample]:
    counts = {name: len(column) for name, column in columns.items()}
    if len(set(counts.values())) > 1:
        told = ", ".join(f"{n} {c}" for n, c in counts.items())
        raise CalibrationError("inputs have different numbers of samples", told)
    for row in zip(*columns.values(), strict=True):
        yield row[0][0], {name: array for name, (_, array) in zip(columns, row, strict=True)}


def synthetic(inputs: Mapping[str, Any], dims: Mapping[str, Any], samples: int = 8, seed: int = 0) -> Iterator[Sample]:
    """Random inputs by their `example:`, at sizes spread over the profile of `dims`. Used only when named."""
    faults: list[Fault] = []
    known = read_dims(dims, faults)
    if faults:
        raise ConfigError(faults)
    formulas = {n: d.formula for n, d in known.items() if d.formula is not None}
    for index in range(samples):
        part = (index + 0.5) / samples
        free = {n: free_size(d.min, d.max, d.multiple, part) for n, d in known.items() if d.formula is None}
        sizes = solved(free, formulas)
        rng = np.random.default_rng([seed, index])
        yield f"synthetic {index}", {name: draw(name, t, sizes, rng) for name, t in inputs.items()}
