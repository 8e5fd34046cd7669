from __future__ import annotations

import math
from dataclasses import asdict

import numpy as np
import pytest

from autovoice.measure.gates import misses
from autovoice.measure.parity import Parity, compare, largest_input, pooled_cosine, unlike
from autovoice.spec import SNR_EQUAL


def f32(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def test_distances_by_hand() -> None:
    parity = compare(f32(3, 4.5), f32(3, 4))  # an error of 0.5 against a norm of 5
    assert parity.max_abs == 0.5
    assert parity.relative_l2 == pytest.approx(0.1)
    assert parity.snr_db == pytest.approx(20)
    assert parity.cosine == pytest.approx((9 + 18) / (math.hypot(3, 4.5) * 5))


def test_over_all_elements_whatever_the_shape() -> None:
    got, reference = np.ones((2, 3), np.float32), np.zeros((2, 3), np.float32)
    reference[1, 2] = 1
    assert compare(got, reference).relative_l2 == pytest.approx(math.sqrt(5))


@pytest.mark.parametrize("values", [f32(1, -2), f32(0, 0), np.zeros((0, 4), np.float32), np.array([True, False])])
def test_equal_tensors_have_no_error_and_a_finite_snr(values: np.ndarray) -> None:
    assert compare(values, values.copy()) == Parity(0.0, 0.0, 1.0, SNR_EQUAL)


def test_an_error_too_small_to_tell_is_at_most_equal() -> None:
    assert compare(np.array([1 + 1e-15]), np.array([1.0])).snr_db == SNR_EQUAL


def test_against_silence_everything_is_error() -> None:
    assert compare(f32(0, -0.25), f32(0, 0)) == Parity(0.25, math.inf, 0.0, -SNR_EQUAL)


def test_silence_for_a_signal() -> None:
    assert compare(f32(0, 0), f32(3, 4)) == Parity(4.0, 1.0, 0.0, 0.0)


def test_the_opposite_signal() -> None:
    parity = compare(f32(-3, -4), f32(3, 4))
    assert (parity.relative_l2, parity.cosine) == (2.0, pytest.approx(-1))
    assert parity.snr_db == pytest.approx(-20 * math.log10(2))


def test_computed_in_float64() -> None:
    big = np.full(1000, 60000, np.float16)
    assert compare(big, (big - np.float16(32)).astype(np.float16)).max_abs == 32
    integers = np.array([2**31 - 1], np.int32)
    assert compare(integers, -integers).max_abs == 2.0 * (2**31 - 1)


@pytest.mark.parametrize(
    ("got", "reference", "message"),
    [
        pytest.param(f32(1, 2), f32(1), r"shape \[2\], the reference has \[1\]", id="shape"),
        pytest.param(np.ones((1, 4)), np.ones((4, 1)), r"shape \[1, 4\], the reference has \[4, 1\]", id="layout"),
        pytest.param(f32(1), np.ones(1, np.float16), "dtype float32, the reference has float16", id="dtype"),
        pytest.param(f32(np.nan, 1, np.inf), f32(1, 1, 1), "2 of 3 values are not finite", id="not_finite"),
        pytest.param(
            f32(1, 1), f32(1, -np.inf), "the reference itself has 1 values that are not finite", id="reference"
        ),
        pytest.param(f32(np.nan), f32(np.nan), "the reference itself has 1", id="both_alike"),
    ],
)
def test_what_cannot_be_compared(got: np.ndarray, reference: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        compare(got, reference)


PARITY = {"max_abs": 0.5, "relative_l2": 0.1, "cosine": 0.99, "snr_db": 20.0}


@pytest.mark.parametrize(
    ("gates", "missed"),
    [
        pytest.param({}, {}, id="no_gate"),
        pytest.param({"snr_db": 20, "cosine": 0.99, "max_abs": 0.5, "relative_l2": 0.1}, {}, id="exactly_met"),
        pytest.param({"snr_db": 20.1, "cosine": 0.9}, {"snr_db": 20.1}, id="less_is_worse"),
        pytest.param({"max_abs": 0.49, "relative_l2": 0.2}, {"max_abs": 0.49}, id="more_is_worse"),
        pytest.param({"cosine": 1, "relative_l2": 0}, {"cosine": 1, "relative_l2": 0}, id="several"),
    ],
)
def test_gates_missed(gates: dict[str, float], missed: dict[str, float]) -> None:
    assert misses(PARITY, gates) == missed


def test_a_metric_that_a_tensor_does_not_have_is_no_gate() -> None:
    assert misses(PARITY | {"pooled_cosine": None}, {"pooled_cosine": 0.98, "lsd_db": 1.0}) == {}
    assert misses(PARITY | {"pooled_cosine": 0.97}, {"pooled_cosine": 0.98}) == {"pooled_cosine": 0.98}


# -- pooled over time --------------------------------------------------------------------------------

FEATURES = ("batch", 3, "frames")


def features(*vectors: list[float], frames: int = 4) -> np.ndarray:
    """[batch, 3, frames], the same vector in every frame of a row."""
    return np.repeat(np.array(vectors, np.float32)[:, :, np.newaxis], frames, axis=2)


def test_pooled_by_hand() -> None:
    got, reference = features([1, 0, 0]), features([1, 1, 0])
    assert pooled_cosine(got, reference, FEATURES) == pytest.approx(math.sqrt(0.5))


def test_pooled_over_time_before_it_is_compared() -> None:
    """Frames that are wrong in opposite ways cancel out in what a user compares."""
    reference = features([1, 2, 3], frames=2)
    got = reference + np.array([5, -5], np.float32)
    assert pooled_cosine(got, reference, FEATURES) == pytest.approx(1)
    assert compare(got, reference).cosine < 0.9


def test_pooled_the_worst_row_counts() -> None:
    reference = features([1, 0, 0], [0, 1, 0], [0, 0, 1])
    got = features([1, 0, 0], [0, -1, 0], [0, 1, 1])
    assert pooled_cosine(got, reference, FEATURES) == pytest.approx(-1)


def test_pooled_wherever_time_stands() -> None:
    rng = np.random.default_rng(0)
    got, reference = rng.standard_normal((2, 2, 3, 9))
    one = pooled_cosine(got, reference, FEATURES)
    assert one == pytest.approx(pooled_cosine(got.swapaxes(1, 2), reference.swapaxes(1, 2), ("batch", "frames", 3)))
    means = got.mean(2), reference.mean(2)
    rows = [float(x @ r / np.linalg.norm(x) / np.linalg.norm(r)) for x, r in zip(*means, strict=True)]
    assert one == pytest.approx(min(rows))


def test_pooled_equal_tensors_are_exactly_one_at_most() -> None:
    x = np.random.default_rng(0).standard_normal((5, 3, 100)).astype(np.float32)
    assert pooled_cosine(x, x, FEATURES) == pytest.approx(1)
    assert pooled_cosine(x, x, FEATURES) <= 1


def test_pooled_in_float64() -> None:
    big = np.full((1, 2, 1000), 60000, np.float16)
    assert pooled_cosine(big, big, ("batch", 2, "frames")) == pytest.approx(1)


def test_pooled_silence_for_a_signal_is_no_match() -> None:
    assert pooled_cosine(features([0, 0, 0]), features([1, 2, 3]), FEATURES) == 0


@pytest.mark.parametrize(
    ("shape", "size"),
    [
        (("batch", 3), (2, 3)),
        (("batch", 1, "samples"), (2, 1, 50)),
        (("batch", "samples"), (2, 50)),
        (("batch",), (2,)),
        ((1, 3, 4), (1, 3, 4)),
    ],
    ids=["no_time", "waveform", "flat_waveform", "one_number_a_row", "fixed"],
)
def test_pooled_where_there_is_nothing_to_pool(shape: tuple[str | int, ...], size: tuple[int, ...]) -> None:
    assert pooled_cosine(np.ones(size), np.ones(size), shape) is None


def test_pooled_rows_that_are_both_silent_are_equal() -> None:
    """As `compare` has it: without an error there is nothing to be gated."""
    x = features([1, 2, 3], [0, 0, 0])
    assert pooled_cosine(x, x.copy(), FEATURES) == pytest.approx(1)


# -- references that are nothing but rounding --------------------------------------------------------


def normalised(times: int, offset: float = 0.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """[2, 8, times] less its mean over time, over its deviation: in float32 by two orders of summation."""
    x = (np.random.default_rng(seed).standard_normal((2, 8, times)) + offset).astype(np.float32)
    found = []
    for mean in (x.mean(2, keepdims=True), x[..., ::-1].cumsum(2, dtype=np.float32)[..., -1:] / np.float32(times)):
        found.append((x - mean) / x.std(2, keepdims=True))
    return found[0], found[1]


@pytest.mark.parametrize("times", [3, 10, 40, 1000])
def test_pooled_means_of_zero_are_not_compared(times: int) -> None:
    got, reference = normalised(times)
    assert compare(got, reference).snr_db > 100  # type: ignore[operator]
    assert pooled_cosine(got, reference, ("batch", 8, "frames")) is None


def test_a_small_mean_that_is_no_rounding_is_compared() -> None:
    got, reference = normalised(40)
    direction = np.linspace(-1e-3, 1e-3, 8, dtype=np.float32)[:, np.newaxis]
    assert pooled_cosine(got + direction, reference + direction, ("batch", 8, "frames")) == pytest.approx(1, abs=1e-5)
    assert pooled_cosine(got - direction, reference + direction, ("batch", 8, "frames")) == pytest.approx(-1, abs=1e-5)


def test_rows_whose_mean_is_rounding_do_not_count_among_others() -> None:
    got, reference = normalised(10)
    got[0] += 1
    reference[0] += 1
    assert pooled_cosine(got, reference, ("batch", 8, "frames")) == pytest.approx(1)
    silent = features([1, 2, 3], [0, 0, 0])
    assert pooled_cosine(silent + np.float32(1e-9), silent, FEATURES) == pytest.approx(1)


def test_an_engine_with_a_mean_where_there_is_none_is_caught_by_the_snr() -> None:
    got, reference = normalised(10)
    parity = compare(got + np.float32(0.5), reference, 3.0)
    assert parity.snr_db == pytest.approx(6, abs=0.1)


ROUNDING = f32(1e-8, -3e-8, 0, 2e-8)


@pytest.mark.parametrize(
    ("got", "reference"),
    [(ROUNDING, f32(0, 0, 0, 0)), (f32(0, 0, 0, 0), ROUNDING), (-ROUNDING, ROUNDING)],
    ids=["zero", "rounding", "both"],
)
def test_ratios_to_rounding_mean_nothing_and_the_error_is_held_against_the_inputs(
    got: np.ndarray, reference: np.ndarray
) -> None:
    parity = compare(got, reference, scale=2.0)
    assert (parity.snr_db, parity.cosine, parity.relative_l2) == (None, None, None)
    assert parity.scaled_db is not None
    assert parity.scaled_db > 120
    assert misses(asdict(parity), {"snr_db": 60, "cosine": 0.999999, "relative_l2": 0.1}) == {}


def test_a_wrong_engine_is_caught_where_the_reference_is_zero() -> None:
    parity = compare(f32(0, 0.1, 0, 0), f32(0, 0, 0, 0), scale=2.0)
    assert parity.scaled_db == pytest.approx(26, abs=0.1)
    assert misses(asdict(parity), {"snr_db": 60}) == {"snr_db": 60}
    assert misses(asdict(parity), {"max_abs": 0.01}) == {"max_abs": 0.01}


def test_small_values_that_are_no_rounding_keep_their_ratios() -> None:
    """Probabilities among many, or a gain of 1e-5."""
    reference = 1e-5 * f32(1, 2, 3, 4)
    assert compare(reference[::-1].copy(), reference, scale=4.0).snr_db == pytest.approx(1.76, abs=0.01)


def test_the_scale_is_of_floating_point_inputs() -> None:
    assert largest_input([f32(1, -3), np.array([40000]), np.zeros((0, 4), np.float32)]) == 3
    assert largest_input([np.array([40000])]) == 0


# -- integers and bools ------------------------------------------------------------------------------


def test_labels_are_right_or_wrong() -> None:
    reference = np.arange(1000)
    got = reference.copy()
    got[3] = 999  # as far away as can be
    parity = compare(got, reference)
    assert parity.equal == pytest.approx(0.999)
    assert (parity.snr_db, parity.cosine) == (pytest.approx(30), None)


def test_quantities_may_be_off_by_one() -> None:
    reference = np.arange(1000, 2000).astype(np.int32)
    assert compare(reference + np.int32(1), reference).snr_db == pytest.approx(63.6, abs=0.2)


def test_bools_that_are_all_false_are_a_reference_too() -> None:
    reference = np.zeros(100, np.bool_)
    got = reference.copy()
    got[0] = True
    assert compare(got, reference).snr_db == pytest.approx(20)
    assert compare(~got, reference).snr_db == pytest.approx(0.04, abs=0.01)


# -- answers to the same inputs ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        (f32(1, 2), f32(1, 2 + 4e-7), True),
        (f32(1, 2), f32(1, 2 + 1e-4), False),
        (f32(1, np.nan, np.inf), f32(1, np.nan, np.inf), True),
        (f32(1, np.nan), f32(1, 2), False),
        (f32(1, np.inf), f32(1, -np.inf), False),
        (f32(0, 0), f32(0, 1e-30), False),
        (f32(1), f32(1, 1), False),
        (np.array([1, 2]), np.array([1, 3]), False),
        (np.array([1, 2]), np.array([1, 2]), True),
    ],
)
def test_answers_repeat_up_to_rounding(first: np.ndarray, second: np.ndarray, same: bool) -> None:
    assert (unlike({"a": f32(1), "y": first}, {"a": f32(1), "y": second}) is None) is same
    assert unlike({"y": first}, {"y": second}) in (None, "y")
