"""Sources of calibration samples: functions that yield arrays by name, named by `source: {_target_: …}`.

A source is called with the keyword arguments of its YAML and, where its signature has them, `files`
({name: path} of the calibration's `files:`), `component` (its name, "" at level pipeline) and `inputs`
({name: {dtype, shape, default, example}}). It yields {input: array}, or (name of the sample, {input: array}).
Whatever it yields is checked against the declaration afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from difflib import SequenceMatcher
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from autovoice.calibration.renaming import check_prefixes
from autovoice.config.dims import read_dims
from autovoice.dims.example_values import draw, free_size
from autovoice.dims.solving import with_formulas
from autovoice.errors import CalibrationError, ConfigError, Fault, choices, nearest
from autovoice.store.arrays import ArrayFault, ArrayFile, read_array
from autovoice.store.npz import Archive

Sample = tuple[str, dict[str, np.ndarray]]
#: samples of one input, each with its name, read when its turn comes
Column = list[tuple[str, Callable[[], np.ndarray]]]
#: how alike two names of components are that are one, misspelt
_NEAR = 0.85


def npz(files: Mapping[str, Path], component: str, inputs: Mapping[str, Any]) -> Iterator[Sample]:
    """Samples recorded as `component/input`, axis 0 counting them, or as `component/input/00007` one by one.

    At level pipeline, as `input` or `input/00007`. A missing batch axis is added back. Raises CalibrationError for
    a component without data, and for a name that is no input of it.
    """
    if len(files) != 1:
        raise CalibrationError(f"calibration.files means {len(files)} files", "this source reads one npz")
    ((_, path),) = files.items()
    with _readable(path, "np.savez(path, **{'component/input': array})"), Archive(path) as archive:
        own = _recorded(archive.names, component, inputs, path)
        yield from _rows({i: _column(archive, path, names, len(inputs[i]["shape"])) for i, names in own.items()})


@contextmanager
def _readable(path: Path, fix: str) -> Iterator[None]:
    try:
        yield
    except ArrayFault as e:
        raise CalibrationError(f"{path}: {e}", f"write it again: {fix}; pickled objects are refused") from e


def _recorded(entries: Sequence[str], component: str, inputs: Mapping[str, Any], path: Path) -> dict[str, list[str]]:
    """{input: its entries}, of this component alone."""
    prefix = f"{component}/" if component else ""
    own: dict[str, list[str]] = {}
    for entry in sorted(e for e in entries if e.startswith(prefix)):
        own.setdefault(entry.removeprefix(prefix).partition("/")[0], []).append(entry)
    if not own or not own.keys() <= inputs.keys():
        check_prefixes(entries, component, inputs, path)
    if not own:
        owners = {e.partition("/")[0] for e in entries}
        raise CalibrationError(f"{path}: has no samples of '{component or 'the pipeline'}'", nearest(component, owners))
    for name in own:
        if name not in inputs:
            raise CalibrationError(f"{path}: '{prefix}{name}' is no input of it", nearest(name, inputs))
    _check_spelling(entries, component, inputs.keys() - own.keys(), path)
    return own


def _check_spelling(entries: Sequence[str], component: str, missing: Collection[str], path: Path) -> None:
    """An input that would take its default, while data of its name stand under nearly this component's name."""
    for entry in entries:
        owner, _, name = entry.partition("/")
        alike = SequenceMatcher(None, owner, component).ratio() if component and owner != component else 0.0
        if name.partition("/")[0] in missing and alike >= _NEAR:
            fact = f"{path}: '{entry}' is nearly '{component}/{name}', which is missing"
            raise CalibrationError(fact, f"call it '{component}/{name}', or give both")


def _column(archive: Archive, path: Path, names: Sequence[str], rank: int) -> Column:
    """All samples of one input. Entries of one sample are read one at a time, stacked ones at once."""
    single = [n for n in names if n.rpartition("/")[2].isdigit()]
    column: Column = [(n, partial(_entry, archive, n, rank)) for n in single]
    for name in names:
        if name not in single:
            _check_axes(archive.header(name).shape, rank, name, path)
            column += _unstacked(archive.read(name), rank, name)
    return column


def _entry(archive: Archive, name: str, rank: int) -> np.ndarray:
    return _batched(archive.read(name), rank)


def npy_folder(files: Mapping[str, Path], component: str, inputs: Mapping[str, Any]) -> Iterator[Sample]:
    """`input.npy` with stacked samples, or a folder `input/` with one file a sample, in the order of their names.

    All of it may stand in a folder named like the component, beside those of other components.
    """
    arrays = {name: path for name, path in sorted(files.items()) if path.suffix == ".npy"}
    inside = {n: p for n, p in arrays.items() if component and n.startswith(f"{component}/")}
    columns: dict[str, Column] = {}
    for name, path in (inside or arrays).items():
        first, *rest = Path(name).with_suffix("").parts[1 if inside else 0 :]
        if first not in inputs:
            raise CalibrationError(f"{path}: '{first}' is no input of {component}", nearest(first, inputs))
        rank = len(inputs[first]["shape"])
        found = [(name, partial(_file, path, rank))] if rest else _stacked(path, rank, name)
        columns.setdefault(first, []).extend(found)
    if not columns:
        wanted = choices(f"{i}.npy or {i}/*.npy" for i in inputs)
        raise CalibrationError(f"no .npy file for {component} among {len(files)} files", f"expected {wanted}")
    yield from _rows(columns)


def _stacked(path: Path, rank: int, name: str) -> Column:
    with _readable(path, "np.save(path, array)"), ArrayFile(path) as file:
        _check_axes(file.header.shape, rank, name, path)
        return _unstacked(file.read(), rank, name)


def _file(path: Path, rank: int) -> np.ndarray:
    with _readable(path, "np.save(path, array)"):
        return _batched(read_array(path), rank)


def _check_axes(shape: Sequence[int], rank: int, name: str, path: Path) -> None:
    if len(shape) not in (rank, rank + 1) or not shape:
        fix = f"one sample has {rank} axes, and a first one counts samples; the batch axis may be left out"
        raise CalibrationError(f"{path}: '{name}' has shape {list(shape)}", fix)


def _unstacked(array: np.ndarray, rank: int, name: str) -> Column:
    """[N, …] → N samples; where a sample's own batch axis was left out, it is put back."""
    parts = [array[i : i + 1] if array.ndim == rank else array[i] for i in range(len(array))]
    return [(f"{name}[{i}]", partial(np.asarray, part)) for i, part in enumerate(parts)]


def _batched(array: np.ndarray, rank: int) -> np.ndarray:
    return array[np.newaxis] if array.ndim == rank - 1 else array


def _rows(columns: Mapping[str, Column]) -> Iterator[Sample]:
    counts = {name: len(column) for name, column in columns.items()}
    if len(set(counts.values())) > 1:
        told = ", ".join(f"{n} {c}" for n, c in counts.items())
        raise CalibrationError("inputs have different numbers of samples", told)
    for row in zip(*columns.values(), strict=True):
        _check_one_sample([name for name, _ in row])
        yield row[0][0], {name: read() for name, (_, read) in zip(columns, row, strict=True)}


def _check_one_sample(entries: Sequence[str]) -> None:
    """Entries of one sample each must have one name: what is paired by place alone may belong to two."""
    single = {Path(e).stem: e for e in entries if not e.endswith("]")}
    if len(single) > 1:
        one, other, *_ = single.values()
        raise CalibrationError(f"'{one}' and '{other}' are no one sample", "give every sample all inputs, by one name")


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
        sizes = with_formulas(free, formulas)
        rng = np.random.default_rng([seed, index])
        yield f"synthetic {index}", {name: draw(name, t, sizes, rng) for name, t in inputs.items()}
