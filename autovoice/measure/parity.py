"""Distances between a tensor and its reference. Needs numpy alone.

A ratio to a reference that is nothing but rounding says nothing. Rounding is float32's throughout: a value has 24
bits, so that two roundings of one number differ by 2^-23 of it at most, and a sum of n of them is off by n times that.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from autovoice.spec import SNR_EQUAL

#: float32's spacing relative to a value
EPSILON = 2.0**-23
#: answers to the same inputs that differ by less than this part of the largest value are the same: the order of sums
#: may differ between runs
_REPEATED = 64 * EPSILON


@dataclass(frozen=True)
class Parity:
    """Distances of a tensor to its float32 reference of the same shape, over all elements.

    `max_abs` = max|x-r|; `relative_l2` = ‖x-r‖/‖r‖; `cosine` = x·r/(‖x‖‖r‖);
    `snr_db` = 20·log10(‖r‖/‖x-r‖), at most 200. None: not meaningful, the reference being nothing but rounding.
    Then `scaled_db` = 20·log10(scale/max|x-r|) stands in: the error against the largest input.
    Of integers and bools, which may be quantities or labels, `equal` is the share that is equal, and `snr_db` not less
    than -10·log10 of the share that is not; they have no cosine.
    """

    max_abs: float
    relative_l2: float | None
    cosine: float | None
    snr_db: float | None
    scaled_db: float | None = None
    equal: float | None = None


def compare(got: np.ndarray, reference: np.ndarray, scale: float = 0.0) -> Parity:
    """Distances in float64; `scale` is the largest magnitude among the inputs, 0 where that is not known.

    Raises ValueError on another shape, another dtype, or values that are not finite.
    """
    if got.shape != reference.shape:
        raise ValueError(f"shape {list(got.shape)}, the reference has {list(reference.shape)}")
    if got.dtype != reference.dtype:
        raise ValueError(f"dtype {got.dtype}, the reference has {reference.dtype}")
    x, r = got.astype(np.float64).ravel(), reference.astype(np.float64).ravel()
    if not np.isfinite(r).all():
        raise ValueError(f"the reference itself has {int((~np.isfinite(r)).sum())} values that are not finite")
    if not np.isfinite(x).all():
        raise ValueError(f"{int((~np.isfinite(x)).sum())} of {x.size} values are not finite")
    if (x == r).all():
        return Parity(0.0, 0.0, 1.0, SNR_EQUAL)
    if reference.dtype.kind in "biu":
        return _counted(x, r)
    if scale > 0 and rms(r) <= EPSILON * scale:
        largest = float(np.abs(x - r).max())
        return Parity(largest, None, None, None, min(20 * math.log10(scale / largest), SNR_EQUAL))
    return _ratios(x, r)


def _ratios(x: np.ndarray, r: np.ndarray) -> Parity:
    error, norm_r, norm_x = (float(np.linalg.norm(v)) for v in (x - r, r, x))
    if norm_r == 0:  # nothing but error, and nothing to hold it against: no finite ratio describes it
        return Parity(float(np.abs(x).max()), math.inf, 0.0, -SNR_EQUAL)
    snr = 20 * math.log10(norm_r / error)
    cosine = float(x @ r / (norm_x * norm_r)) if norm_x else 0.0
    return Parity(float(np.abs(x - r).max()), error / norm_r, min(cosine, 1.0), min(snr, SNR_EQUAL))


def _counted(x: np.ndarray, r: np.ndarray) -> Parity:
    """Of whole numbers: as quantities, or as labels of which a share is right, whichever is more."""
    unequal = float((x != r).mean())
    by_count = -10 * math.log10(unequal)
    snr = by_count if not r.any() else max(by_count, _ratios(x, r).snr_db or 0.0)
    return Parity(float(np.abs(x - r).max()), 10 ** (-snr / 20), None, snr, equal=1 - unequal)


def rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(values, dtype=np.float64)))) if values.size else 0.0


def largest_input(feeds: Iterable[np.ndarray]) -> float:
    """The scale at which a component rounds: the largest magnitude of its floating point inputs, 0 without any."""
    return max((float(np.abs(v).max(initial=0.0)) for v in feeds if v.dtype.kind == "f"), default=0.0)


def pooled_axes(shape: Sequence[str | int], size: Sequence[int]) -> tuple[int, ...]:
    """The dynamic axes behind the first; none where nothing but one number a row would be left without them."""
    axes = tuple(i for i, axis in enumerate(shape) if i > 0 and isinstance(axis, str))
    return axes if math.prod(n for i, n in enumerate(size) if i > 0 and i not in axes) > 1 else ()


def pooled_cosine(got: np.ndarray, reference: np.ndarray, shape: Sequence[str | int]) -> float | None:
    """The smallest cosine, over the rows of axis 0, of what is left after the mean over all other dynamic axes.

    What an encoder's user compares: one vector a sentence or a recording. None where there is nothing to pool, and
    where every row's mean is rounding: a value is a sum over channels, the mean one over time, so what the two can
    leave of zero is (channels + times)·2^-23 of the row. A normalisation over time (InstanceNorm, CMVN) leaves that.
    """
    axes = pooled_axes(shape, reference.shape)
    if not axes:
        return None
    x, r = (v.astype(np.float64).mean(axes).reshape(len(v), -1) for v in (got, reference))
    times = math.prod(reference.shape[i] for i in axes)
    whole = np.sqrt(np.square(reference, dtype=np.float64).reshape(len(reference), -1).mean(1))
    left = np.sqrt(np.square(r).mean(1))
    equal = (x == r).all(1)
    meant = equal | (left > (r.shape[1] + times) * EPSILON * whole)
    if not meant.any():
        return None
    norms = np.linalg.norm(x, axis=1) * np.linalg.norm(r, axis=1)
    # of two rows of zeros, nothing differs
    cosines = np.divide((x * r).sum(1), norms, out=equal.astype(np.float64), where=norms > 0)
    return float(min(cosines[meant].min(), 1.0))


def unlike(first: Mapping[str, np.ndarray], second: Mapping[str, np.ndarray]) -> str | None:
    """The first tensor that differs between two answers to the same inputs by more than rounding."""
    return next((name for name, value in first.items() if not _repeats(value, second[name])), None)


def _repeats(a: np.ndarray, b: np.ndarray) -> bool:
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    if a.dtype.kind not in "f" or np.array_equal(a, b, equal_nan=True):
        return bool(np.array_equal(a, b, equal_nan=a.dtype.kind == "f"))
    finite = np.isfinite(a)
    if not np.array_equal(np.where(finite, 0, a), np.where(np.isfinite(b), 0, b), equal_nan=True):
        return False
    x, y = a[finite].astype(np.float64), b[finite].astype(np.float64)
    return bool(np.abs(x - y).max(initial=0.0) <= _REPEATED * np.abs(x).max(initial=0.0))
