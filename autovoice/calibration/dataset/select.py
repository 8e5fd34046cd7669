"""The choice of a calibration dataset among many candidates: plain numpy, the same for the same seed.

`coverage` spreads lengths over the profile and, within that, activations over all that the candidates show:

1. A candidate's place is log(size/min) / log(max/min), averaged over the dims whose size differs among candidates:
   0 at the profile's least size, 1 at its largest. Places fall into min(10, wanted) strata of equal width, and each
   stratum gets the same number of samples, as far as it has them; what is left goes to the longest first.
2. A candidate's features are mean, standard deviation, largest magnitude and the 1, 25, 50, 75 and 99 % quantiles
   of every tensor that any component reads, each feature standardised over the candidates.
3. Greedy k-center (Gonzalez 1985, at most twice the best possible radius without strata): after the longest and the
   shortest, always the candidate farthest from all those taken, out of the strata that are not full. The seed
   decides among equals.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

SELECTIONS = ("first", "random", "coverage")
STRATA = 10
_QUANTILES = (0.01, 0.25, 0.5, 0.75, 0.99)
#: below this share of its magnitude, a feature's spread is rounding
_ROUNDING = 1e-6

Sizes = Mapping[str, int]


def random(available: int, wanted: int, seed: int) -> list[int]:
    """`wanted` of them, each equally likely, in their own order."""
    drawn = np.random.default_rng(seed).choice(available, min(wanted, available), replace=False)
    return sorted(int(i) for i in drawn)


def cover(places: np.ndarray, features: np.ndarray, wanted: int, seed: int) -> list[int]:
    """`wanted` candidates by places [n] and features [n, any], in their own order; see the module for the formula."""
    count = len(places)
    if wanted >= count:
        return list(range(count))
    points = standardised(features)
    strata = _strata(places, min(STRATA, wanted))
    left = quotas(np.bincount(strata, minlength=STRATA), wanted)
    order = np.random.default_rng(seed).permutation(count)
    near = np.full(count, np.inf)
    chosen: list[int] = []
    ends = [int(order[np.argmax(places[order])]), int(order[np.argmin(places[order])])]
    while len(chosen) < wanted:
        free = (left[strata] > 0) & (near >= 0)
        i = ends.pop(0) if ends else int(order[np.argmax(np.where(free, near, -1.0)[order])])
        if free[i]:  # the longest may be the shortest too
            chosen.append(i)
            left[strata[i]] -= 1
            near = np.minimum(near, np.linalg.norm(points - points[i], axis=1))
            near[i] = -1.0
    return sorted(chosen)


def quotas(available: np.ndarray, wanted: int) -> np.ndarray:
    """How many samples each stratum gives: equal shares, where it has them; what is left from the longest down."""
    given = np.zeros_like(available)
    while given.sum() < wanted:
        unfilled = np.flatnonzero(given < available)[::-1]
        given[unfilled[: wanted - given.sum()]] += 1
    return given


def _strata(places: np.ndarray, count: int) -> np.ndarray:
    return np.asarray(np.clip((places * count).astype(int), 0, count - 1))


def standardised(features: np.ndarray) -> np.ndarray:
    """Every column with mean 0 and standard deviation 1; one that is constant says nothing, and is 0."""
    spread = features.std(axis=0)
    constant = spread <= _ROUNDING * np.abs(features).max(axis=0)
    centred = features - features.mean(axis=0)
    return np.where(constant, 0.0, centred / np.where(constant, 1.0, spread))


def features_of(array: np.ndarray) -> list[float]:
    """What a tensor looks like, whatever its shape."""
    values = array.astype(np.float64).ravel()
    return [values.mean(), values.std(), np.abs(values).max(), *np.quantile(values, _QUANTILES)]


# -- lengths ---------------------------------------------------------------------------------------


def place(size: int, dim: Mapping[str, Any]) -> float:
    """Where a size stands in its profile, on a logarithmic scale: 0 at min, 1 at max."""
    whole = math.log(dim["max"] / dim["min"])
    return math.log(size / dim["min"]) / whole if whole else 0.0


def places_of(sizes: Sequence[Sizes], dims: Mapping[str, Mapping[str, Any]]) -> np.ndarray:
    """One place a candidate. Dims that follow others, or never differ, have no say."""
    varied = [d for d in sizes[0] if len({s[d] for s in sizes}) > 1]
    free = [d for d in varied if dims[d]["formula"] is None] or varied
    return np.array([np.mean([place(s[d], dims[d]) for d in free] or [0.0]) for s in sizes])


def coverage_of(sizes: Sequence[Sizes], dims: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """{dim: {seen, profile, opt, covered, counts}}: `covered` is the share of the profile's logarithmic range that
    lies between the smallest and the largest size, `counts` are the samples in each tenth of that range."""
    found = {}
    for name in sorted(sizes[0]):
        dim, seen = dims[name], sorted(s[name] for s in sizes)
        at = np.array([place(size, dim) for size in seen])
        found[name] = {
            "seen": [seen[0], seen[-1]],
            "profile": [dim["min"], dim["max"]],
            "opt": dim["opt"],
            "covered": round(float(at[-1] - at[0]), 3) if dim["min"] != dim["max"] else 1.0,
            "counts": np.bincount(_strata(at, STRATA), minlength=STRATA).tolist(),
        }
    return found
