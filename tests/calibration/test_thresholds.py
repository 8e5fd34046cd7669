from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest

from autovoice.calibration.observe import Histogram
from autovoice.calibration.thresholds import LEVELS, threshold

METHODS = ("minmax", "percentile", "entropy", "mse")
SEARCHED = ("entropy", "mse")


def chosen(method: str, values: np.ndarray, percentile: float = 99.99) -> tuple[float, float]:
    histogram = Histogram()
    histogram.add(values)
    return threshold(method, float(values.min()), float(values.max()), histogram, percentile)


def width(values: np.ndarray) -> float:
    """Of one bin."""
    histogram = Histogram()
    histogram.add(values)
    return 2.0**histogram.exponent


def bell(count: int = 200_000, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(count).astype(np.float32)


def with_outlier(values: np.ndarray, outlier: float) -> np.ndarray:
    return np.append(values, np.float32(outlier))


SHAPES: dict[str, Callable[[], np.ndarray]] = {
    "bell": bell,
    "outlier": lambda: with_outlier(bell(), 60),
    "negative_outlier": lambda: with_outlier(bell(), -60),
    "uniform": lambda: np.random.default_rng(1).uniform(-1, 1, 100_000).astype(np.float32),
    "relu": lambda: np.maximum(bell(), 0),
    "all_positive": lambda: np.abs(bell()) + 3,
    "all_negative": lambda: -np.abs(bell()) - 3,
    "laplace": lambda: np.random.default_rng(2).laplace(size=100_000).astype(np.float32),
    "two_values": lambda: np.array([-1, 1], np.float32),
    "mostly_zero": lambda: np.append(np.zeros(100_000, np.float32), [1e-3, 2]).astype(np.float32),
    "tiny": lambda: bell() * np.float32(1e-30),
    "huge": lambda: bell() * np.float32(1e37),
    "denormal": lambda: np.array([1, 2, 3, -5], np.float32) * np.float32(2.0**-149),
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shape", SHAPES)
def test_never_wider_than_what_was_seen_and_never_empty(method: str, shape: str) -> None:
    values = SHAPES[shape]()
    low, high = chosen(method, values)
    assert values.min() <= low < high <= values.max()
    assert np.isfinite([low, high]).all()


@pytest.mark.parametrize("method", METHODS)
def test_the_same_at_any_scale(method: str) -> None:
    values = with_outlier(bell(20_000), 30)
    low, high = chosen(method, values)
    scaled = chosen(method, values * np.float32(2.0**-40))
    assert scaled == pytest.approx((low * 2.0**-40, high * 2.0**-40), rel=1e-9)


def test_minmax_is_what_was_seen() -> None:
    assert threshold("minmax", -0.1, 7.3, None, 99.99) == (-0.1, 7.3)
    assert chosen("minmax", with_outlier(bell(), 60))[1] == 60


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("value", [0.0, 3.0, -2.5])
def test_one_value_alone_is_its_own_range(method: str, value: float) -> None:
    assert chosen(method, np.full(50, value, np.float32)) == (value, value)


# -- percentile ------------------------------------------------------------------------------------


@pytest.mark.parametrize("percentile", [80.0, 99.0, 99.9, 99.99])
@pytest.mark.parametrize("shape", ["bell", "uniform", "laplace", "outlier"])
def test_percentile_is_numpys_within_a_bin(shape: str, percentile: float) -> None:
    values = SHAPES[shape]()[-99_991:]  # a prime: no share of it is a percentile exactly
    tail = (100 - percentile) / 2
    # no interpolation: between two far values of a tail nothing was seen
    expected = np.percentile(values.astype(np.float64), [tail, 100 - tail], method="inverted_cdf")
    assert np.abs(np.subtract(chosen("percentile", values, percentile), expected)).max() <= width(values)


def test_at_least_so_many_values_stay_inside() -> None:
    values = bell()
    for percentile in (60, 90, 99, 99.9):
        low, high = chosen("percentile", values, percentile)
        assert np.mean((values >= low) & (values <= high)) >= percentile / 100


def test_a_hundred_percent_clip_nothing() -> None:
    values = with_outlier(bell(), 60)
    assert chosen("percentile", values, 100) == (float(values.min()), 60.0)


def test_a_higher_percentile_is_never_narrower() -> None:
    values = SHAPES["laplace"]()
    ranges = [chosen("percentile", values, p) for p in (60, 90, 99, 99.9, 99.99, 100)]
    assert all(b[0] <= a[0] and a[1] <= b[1] for a, b in pairwise(ranges))
    assert ranges[0] != ranges[-1]


# -- entropy and mse -------------------------------------------------------------------------------


@pytest.mark.parametrize("method", SEARCHED)
def test_rare_far_outliers_are_clipped(method: str) -> None:
    values = np.append(bell(1_000_000), np.array([-40, 40], np.float32))
    low, high = chosen(method, values)
    assert low == -high
    assert high < 20
    assert np.mean((values >= low) & (values <= high)) > 0.999


@pytest.mark.parametrize("method", SEARCHED)
@pytest.mark.parametrize("sign", [1, -1])
def test_an_outlier_at_one_end_is_clipped_without_the_bulk_at_the_other(method: str, sign: int) -> None:
    values = with_outlier(bell(1_000_000), sign * 40)
    low, high = chosen(method, values)
    assert max(-low, high) <= 0.85 * 40
    assert np.mean((values >= low) & (values <= high)) > 0.995


@pytest.mark.parametrize("method", SEARCHED)
def test_a_uniform_range_is_kept_whole(method: str) -> None:
    values = SHAPES["uniform"]()
    assert chosen(method, values) == (float(values.min()), float(values.max()))


def test_mse_is_the_best_of_the_fractions_it_tries() -> None:
    """The mean squared error after quantization of the values themselves, not of the histogram."""
    values = with_outlier(bell(), 12)
    whole = (float(values.min()), float(values.max()))

    def error(low: float, high: float) -> float:
        step = (high - low) / LEVELS
        clipped = np.clip(values.astype(np.float64), low, high)
        return float(np.mean((values - (low + np.round((clipped - low) / step) * step)) ** 2))

    got = error(*chosen("mse", values))
    assert got < error(*whole)
    others = [error(whole[0] * f, whole[1] * f) for f in np.linspace(0.2, 1, 17)]
    assert got <= min(others) * 1.01


# -- one-sided tensors -----------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_a_rectified_tensor_starts_at_zero(method: str) -> None:
    values = with_outlier(np.maximum(bell(), 0), 40)
    low, high = chosen(method, values, 99.9)
    assert low == 0
    assert 0 < high <= 40


@pytest.mark.parametrize("method", METHODS)
def test_a_tensor_below_zero_ends_at_zero(method: str) -> None:
    low, high = chosen(method, -with_outlier(np.maximum(bell(), 0), 40), 99.9)
    assert high == 0
    assert -40 <= low < 0


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("sign", [1, -1])
def test_a_tensor_far_from_zero_keeps_its_bulk(method: str, sign: int) -> None:
    """Most values lie in 10 … 11: whatever the method, nearly all of them stay representable."""
    values = (sign * np.random.default_rng(0).uniform(10, 11, 50_000)).astype(np.float32)
    low, high = chosen(method, values)
    low, high = min(low, 0.0), max(high, 0.0)  # as every quantizer here takes it: zero is a level of its own
    assert np.mean((values >= low) & (values <= high)) > 0.99
