"""From what was seen of a tensor to the range that is quantized: minmax, percentile, entropy, mse."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from autovoice.calibration.observe import Histogram

LEVELS = 255
#: the share of values that the entropy method may clip
_CLIPPED = 0.01
_FRACTIONS = np.linspace(0.2, 1.0, 81)
Error = Callable[[np.ndarray, np.ndarray, float, float], float]


def threshold(
    method: str, low: float, high: float, histogram: Histogram | None, percentile: float
) -> tuple[float, float]:
    """The range [low, high] to quantize, at most what was seen; `percentile` in percent of values kept inside."""
    if method == "minmax" or histogram is None or low == high:
        return low, high
    edges, counts = histogram.edges(), histogram.counts
    if method == "percentile":
        return _percentile(edges, counts, low, high, percentile)
    centres = (edges[:-1] + edges[1:]) / 2
    error: Error = _divergence if method == "entropy" else _squared_error
    return _searched(error, centres, counts, low, high)


def _searched(error: Error, centres: np.ndarray, counts: np.ndarray, low: float, high: float) -> tuple[float, float]:
    """One end moved while the other stays, twice each; zero is always inside, since quantizers have it there."""
    least, most = min(low, 0.0), max(high, 0.0)
    for _ in range(2):
        # the widest of equally good ranges: clipping needs a reason
        if high > 0:
            ends = (high * float(f) for f in _FRACTIONS)
            most = min(ends, key=lambda end: (error(centres, counts, least, end), -end))
        if low < 0:
            ends = (low * float(f) for f in _FRACTIONS)
            least = min(ends, key=lambda end: (error(centres, counts, end, most), end))
    return (low if low > 0 else least), (high if high < 0 else most)


def _percentile(
    edges: np.ndarray, counts: np.ndarray, low: float, high: float, percentile: float
) -> tuple[float, float]:
    """Half of what may be clipped at each end; zero stays inside."""
    share = np.concatenate([[0.0], np.cumsum(counts)]) / counts.sum()
    tail = (1 - percentile / 100) / 2
    first = edges[np.searchsorted(share, tail, side="right") - 1]
    last = edges[np.searchsorted(share, 1 - tail, side="left")]
    return max(low, min(float(first), 0.0)), min(high, max(float(last), 0.0))


def _squared_error(centres: np.ndarray, counts: np.ndarray, low: float, high: float) -> float:
    """Σ count · (x - q(x))² for 8 bits over [low, high]."""
    rounded = low + np.round((np.clip(centres, low, high) - low) * (LEVELS / (high - low))) * ((high - low) / LEVELS)
    return float((counts * (centres - rounded) ** 2).sum())


def _divergence(centres: np.ndarray, counts: np.ndarray, low: float, high: float) -> float:
    """KL divergence of the values from their 8-bit version: clipped mass at the ends, flat within one level.

    After Migacz, "8-bit inference with TensorRT" (2017); mass without a level counts as a very unlikely value.
    Infinite for a range that clips more than rare values: of one bin alone, any distribution looks right.
    """
    inside = (centres >= low) & (centres <= high)
    if counts[~inside].sum() > _CLIPPED * counts.sum():
        return math.inf
    where = np.flatnonzero(inside)
    p = np.where(inside, counts, 0).astype(np.float64)
    p[where[0]] += counts[: where[0]].sum()
    p[where[-1]] += counts[where[-1] + 1 :].sum()
    level = np.clip(np.round((centres - low) * (LEVELS / (high - low))), 0, LEVELS).astype(int)
    filled = inside & (counts > 0)
    mass, bins = (
        np.bincount(level[filled], counts[filled], LEVELS + 1),
        np.bincount(level[filled], minlength=LEVELS + 1),
    )
    q = np.where(filled, mass[level] / np.maximum(bins[level], 1), 0)
    p, q = p / p.sum(), q / max(q.sum(), 1e-30)
    both, lost = (p > 0) & (q > 0), (p > 0) & (q <= 0)
    return float((p[both] * np.log(p[both] / q[both])).sum() + (p[lost] * np.log(p[lost] / 1e-9)).sum())
