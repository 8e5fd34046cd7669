"""Calibration samples as files: one npz a sample, checked against the declaration, and a manifest of them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from autovoice.calibration.oddities import extrema
from autovoice.dims.binding import Binder
from autovoice.errors import AutovoiceError, CalibrationError, FeedError, choices, first_line
from autovoice.spec import Dim
from autovoice.spec.ports import SentPort, roles, sent
from autovoice.store.hashing import uncached_sha256
from autovoice.store.npz import read_npz, write_npz

MANIFEST = "samples.json"
_ANY_SIZE = 2**31 - 1


class SampleChecker:
    """Names, dtypes, ranks, finite values, and sizes that agree; any size, whatever the profile is.

    `partial` samples may lack inputs: whoever reads one that is not there says so.
    """

    def __init__(
        self,
        inputs: Mapping[str, Any],
        formulas: Mapping[str, str],
        symbols: Iterable[str],
        whose: str,
        partial: bool = False,
    ) -> None:
        self.dims = {n: Dim(n, 1, 1, _ANY_SIZE, formulas.get(n)) for n in symbols}
        self.inputs, self.whose, self.partial = inputs, whose, partial
        self.binder = Binder(inputs, self.dims)

    def checked(self, name: str, sample: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """The sample, completed by defaults. Raises CalibrationError with its name."""
        for key, value in sample.items():
            if isinstance(value, np.ndarray) and value.size == 0:
                raise self._error(name, f"'{key}' is empty", f"shape {list(value.shape)}")
        try:
            arrays = self._binder(sample).bind(dict(sample))
        except FeedError as e:
            raise self._error(name, e.fact, e.fix) from e
        for key, value in arrays.items():
            bad = int((~np.isfinite(value)).sum()) if value.dtype.kind == "f" else 0
            if bad:
                fix = "leave that sample out, or mend what made it"
                raise self._error(name, f"'{key}' has {bad} values that are not finite", fix)
        return arrays

    def _binder(self, sample: Mapping[str, Any]) -> Binder:
        absent = {n for n, t in self.inputs.items() if n not in sample and t.get("default") is None}
        if not self.partial or not absent:
            return self.binder
        return Binder({n: t for n, t in self.inputs.items() if n not in absent}, self.dims)

    def _error(self, name: str, fact: str, fix: str) -> CalibrationError:
        return CalibrationError(f"calibration of {self.whose}, sample {name}: {fact}", fix)


def write_samples(out: Path, samples: Iterable[Any], checker: SampleChecker, min_samples: int) -> list[dict[str, Any]]:
    """Check and write every sample; one entry each. Raises CalibrationError with the sample's name."""
    entries: list[dict[str, Any]] = []
    for index, item in enumerate(_drawn(samples, checker.whose)):
        name, sample = item if isinstance(item, tuple) and len(item) == 2 else (str(index), item)
        if not isinstance(sample, Mapping):
            fact = f"calibration of {checker.whose}, sample {name}: is a {type(sample).__name__}"
            raise CalibrationError(fact, "a source yields {input: array}, or (name, {input: array})")
        arrays = checker.checked(str(name), sample)
        path = out / f"{index:05d}.npz"
        with open(path, "wb") as file:
            write_npz(file, arrays)
        shapes = {n: list(v.shape) for n, v in sorted(arrays.items())}
        entry = {"name": str(name), "sha256": uncached_sha256(path), "shapes": shapes, "extrema": extrema(arrays)}
        entries.append(entry)
    if len(entries) < min_samples:
        count = f"{len(entries)} sample{'s' if len(entries) != 1 else ''}" if entries else "no sample at all"
        raise CalibrationError(
            f"calibration of {checker.whose}: {count}, at least {min_samples} are needed",
            "give more data (calibration.files), or say that it is enough: calibration.min_samples=1",
        )
    (out / MANIFEST).write_text(json.dumps({"samples": entries}, indent=1) + "\n")
    return entries


def _drawn(samples: Any, whose: str) -> Iterator[Any]:
    """What a source yields. Raises CalibrationError where it yields nothing at all, or raises."""
    if not isinstance(samples, Iterable):
        fact = f"calibration of {whose}: the source returned a {type(samples).__name__}"
        raise CalibrationError(fact, "a source yields {input: array}, or (name, {input: array})")
    try:
        yield from samples
    except AutovoiceError:
        raise
    except Exception as e:  # code of the user's own may raise anything
        fact = f"calibration of {whose}: the source raised {type(e).__name__}: {first_line(e)}"
        raise CalibrationError(fact, "the full traceback is in the step's log") from e


def entries_of(folder: Path) -> list[dict[str, Any]]:
    """What the manifest beside the samples says of each."""
    entries: list[dict[str, Any]] = json.loads((folder / MANIFEST).read_bytes())["samples"]
    return entries


def sample_files(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.glob("[0-9]*.npz"))


def sample_feeds(
    reads: Mapping[str, SentPort], needs: Mapping[str, Path], shard: tuple[int, int] = (0, 1)
) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
    """One sample's file name and inputs at a time, by the component's own names, from whoever has or computed them.

    `shard` (i, n) takes every n-th sample from the i-th on.
    """
    senders = roles(reads)
    for name in sample_files(needs[senders[0]])[shard[0] :: shard[1]]:
        loaded = {role: read_npz(needs[role] / name) for role in senders}
        for port in reads.values():
            if port["wire"] not in loaded[port["role"]]:
                fix = f"it has {choices(loaded[port['role']])}; the source must give every input that is read"
                raise CalibrationError(f"calibration sample {name}: has no '{port['wire']}'", fix)
        yield name, sent(reads, loaded)
