"""Oddities of calibration samples: ranges made from them would be wrong without anything failing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

import numpy as np

#: how many times the median of all samples' largest magnitudes an outlier's is; above it, 8 bits hold nothing else
OUTLIER = 1e6
#: fewer samples than this say little about what others look like
FEW = 8
#: names that one note tells
_NAMED = 3

Entry = Mapping[str, Any]


def extrema(arrays: Mapping[str, np.ndarray]) -> dict[str, list[float]]:
    """[smallest, largest] of every floating point input of more than one number."""
    floats = {n: v for n, v in sorted(arrays.items()) if v.dtype.kind == "f" and v.size > 1}
    return {n: [float(v.min()), float(v.max())] for n, v in floats.items()}


def odd_samples(entries: Sequence[Entry], inputs: Mapping[str, Any]) -> list[str]:
    """A note for each kind of oddity and input, with the samples' own names.

    `entries` are those of the samples' manifest, `inputs` declared tensors. An input that is at its default, or 1
    throughout as a mask is, is not odd.
    """
    found = [f"only {len(entries)} samples: ranges of so few say little"] if len(entries) < FEW else []
    found += _repeated(entries)
    for name, tensor in inputs.items():
        seen = {e["name"]: tuple(e["extrema"][name]) for e in entries if name in e["extrema"]}
        if seen:
            found += [*_constant(name, seen, tensor.get("default")), *_outliers(name, seen)]
    return found


def _repeated(entries: Sequence[Entry]) -> list[str]:
    by_content: dict[str, list[str]] = {}
    for e in entries:
        by_content.setdefault(e["sha256"], []).append(e["name"])
    twice = [names for names in by_content.values() if len(names) > 1]
    return [f"{_named(names)} hold the same values" for names in twice]


def _constant(name: str, seen: Mapping[str, tuple[float, float]], default: Any) -> list[str]:
    values: dict[float, list[str]] = {}
    for sample, (low, high) in seen.items():
        if low == high and low not in (1.0, default):
            values.setdefault(low, []).append(sample)
    return [
        f"'{name}' is {'all zero' if value == 0 else f'{value:g} throughout'} in {_of(samples, seen)}"
        for value, samples in values.items()
    ]


def _outliers(name: str, seen: Mapping[str, tuple[float, float]]) -> list[str]:
    largest = {sample: max(abs(low), abs(high)) for sample, (low, high) in seen.items()}
    usual = median(largest.values())
    odd = [s for s, value in largest.items() if value >= OUTLIER * usual > 0]
    return [f"'{name}' reaches {largest[s]:.3g} in {s}, {usual:.3g} in most: its range holds nothing else" for s in odd]


def _of(samples: Sequence[str], seen: Mapping[str, Any]) -> str:
    return f"all {len(seen)} samples" if len(samples) == len(seen) > 1 else _named(samples)


def _named(samples: Sequence[str]) -> str:
    more = f" and {len(samples) - _NAMED} more" if len(samples) > _NAMED else ""
    return f"{'samples' if len(samples) > 1 else 'sample'} {', '.join(samples[:_NAMED])}{more}"
