"""A calibration dataset as text: a row an input, a line a dim, and what to mind."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from autovoice.calibration.dataset.write import Dataset, Statistics
from autovoice.terminal.escape import escaped
from autovoice.terminal.table import table

#: below this many samples, ranges depend on which ones were taken
ENOUGH = 100
_BARS = "▁▂▃▄▅▆▇█"
_WIDTH = 24


def summary(data: Dataset, coverage: Mapping[str, Any], wanted: int) -> str:
    """The table, how much of the profile is covered, and warnings."""
    columns = ["component", "input", "dtype", "shape", "min", "mean", "max", "std", "histogram"]
    ranged = {n: c for n, c in coverage.items() if _ranged(c)}
    covered = [_covered(name, c) for name, c in ranged.items()]
    warned = [f" warning: {w}" for w in (*_few(len(data.samples), wanted), *_uncovered(ranged))]
    return "\n".join([table(columns, _rows(data)), "", *map(escaped, (*covered, *warned))])


def _rows(data: Dataset) -> Iterator[list[str]]:
    before = ""
    for (component, name), s in data.inputs.items():
        numbers = [f"{v:.4g}" for v in (s.low, s.mean, s.high, s.std)]
        yield [component if component != before else "", name, s.dtype, _shape(s), *numbers, _bars(s)]
        before = component


def _shape(s: Statistics) -> str:
    low, high = s.shapes
    return "×".join(str(a) if a == b else f"{a}…{b}" for a, b in zip(low, high, strict=True)) or "scalar"


def _bars(s: Statistics) -> str:
    """Between the smallest and the largest value; nothing for integers, and for one that is always the same."""
    return _bar_line(s.bars(_WIDTH)) if s.dtype.startswith("float") and s.low < s.high else ""


def _bar_line(counts: Sequence[int] | np.ndarray) -> str:
    """A blank for no value at all, so that the lowest bar says where rare ones lie."""
    most = max(counts)
    return "".join(_BARS[-(-int(c) * len(_BARS) // int(most)) - 1] if c else " " for c in counts)


def _ranged(c: Mapping[str, Any]) -> bool:
    """Not of a fixed size; nor 1 in every sample, as an axis of batches is: samples come one at a time."""
    return bool(c["profile"][0] != c["profile"][1] and c["seen"] != [1, 1])


def _covered(name: str, c: Mapping[str, Any]) -> str:
    seen, profile = ("…".join(map(str, c[k])) for k in ("seen", "profile"))
    return f" {name} {seen} of {profile}, {c['covered']:.0%} of its logarithmic range  |{_bar_line(c['counts'])}|"


def _few(count: int, wanted: int) -> Iterator[str]:
    if count < wanted:
        yield f"the source gave {count} samples, {wanted} were wanted: give more data, input=my_recordings/"
    if count < ENOUGH:
        more = f"samples={ENOUGH}" if wanted < ENOUGH else "more data"
        yield f"{count} samples are few: below {ENOUGH} ranges depend on which ones were taken; {more}"


def _uncovered(ranged: Mapping[str, Any]) -> Iterator[str]:
    for name, c in ranged.items():
        if c["covered"] < 0.5:
            yield f"{name}: less than half of the profile's logarithmic range is covered; longer and shorter data"
        if c["seen"][1] < c["opt"]:
            yield f"{name}: the largest sample has {c['seen'][1]}, opt is {c['opt']}; longer data, or a smaller opt"
