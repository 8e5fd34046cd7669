"""How close one tensor is to its reference. Needs numpy alone."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from autovoice.spec import ERRORS, SNR_EQUAL


@dataclass(frozen=True)
class Parity:
    """Distances of a tensor to its float32 reference of the same shape, over all elements.

    `max_abs` = max|x-r|; `relative_l2` = ‖x-r‖/‖r‖; `cosine` = x·r/(‖x‖‖r‖);
    `snr_db` = 20·log10(‖r‖/‖x-r‖), at most 200.
    """

    max_abs: float
    relative_l2: float
    cosine: float
    snr_db: float


def compare(got: np.ndarray, reference: np.ndarray) -> Parity:
    """Distances in float64. Raises ValueError on another shape, another dtype, or values that are not finite."""
    if got.shape != reference.shape:
        raise ValueError(f"shape {list(got.shape)}, the reference has {list(reference.shape)}")
    if got.dtype != reference.dtype:
        raise ValueError(f"dtype {got.dtype}, the reference has {reference.dtype}")
    x, r = got.astype(np.float64).ravel(), reference.astype(np.float64).ravel()
    if not np.isfinite(r).all():
        raise ValueError(f"the reference itself has {int((~np.isfinite(r)).sum())} values that are not finite")
    if not np.isfinite(x).all():
        raise ValueError(f"{int((~np.isfinite(x)).sum())} of {x.size} values are not finite")
    error, norm_r, norm_x = np.linalg.norm(x - r), np.linalg.norm(r), np.linalg.norm(x)
    if error == 0:
        return Parity(0.0, 0.0, 1.0, SNR_EQUAL)
    if norm_r == 0:  # nothing but error: no finite ratio describes it
        return Parity(float(np.abs(x).max()), math.inf, 0.0, -SNR_EQUAL)
    snr = float(20 * np.log10(norm_r / error))
    cosine = float(x @ r / (norm_x * norm_r)) if norm_x else 0.0
    return Parity(float(np.abs(x - r).max()), float(error / norm_r), min(cosine, 1.0), min(snr, SNR_EQUAL))


def pooled_cosine(got: np.ndarray, reference: np.ndarray, shape: Sequence[str | int]) -> float | None:
    """The smallest cosine, over the rows of axis 0, of what is left after the mean over all other dynamic axes.

    What an encoder's user compares: one vector a sentence or a recording. None where there is no such axis, or where
    nothing but one number a row would be left.
    """
    axes = tuple(i for i, axis in enumerate(shape) if i > 0 and isinstance(axis, str))
    if not axes or math.prod(n for i, n in enumerate(got.shape) if i > 0 and i not in axes) < 2:
        return None
    x, r = (v.astype(np.float64).mean(axes).reshape(len(v), -1) for v in (got, reference))
    norms = np.linalg.norm(x, axis=1) * np.linalg.norm(r, axis=1)
    equal = (x == r).all(1).astype(np.float64)  # of two rows of zeros, nothing differs
    cosines = np.divide((x * r).sum(1), norms, out=equal, where=norms > 0)
    return float(min(cosines.min(), 1.0))


def misses(parity: Mapping[str, float], gates: Mapping[str, float]) -> dict[str, float]:
    """The gates that are not met: {metric: threshold}."""
    return {
        metric: threshold
        for metric, threshold in gates.items()
        if parity.get(metric) is not None  # a metric that this tensor does not have
        and (parity[metric] > threshold if metric in ERRORS else parity[metric] < threshold)
    }
