"""Seeded values of declared tensors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from autovoice.dims.example_values import draw, free_size
from autovoice.dims.solving import with_formulas
from autovoice.errors import StepError

SIZES = {"n": 4, "length": 50}


def drawn(example: dict[str, Any] | None, shape: list[Any], dtype: str = "float32", seed: int = 0, **more: Any) -> Any:
    tensor = {"shape": shape, "dtype": dtype, "example": example, "default": None, **more}
    return draw("x", tensor, SIZES, np.random.default_rng(seed))


def follows(row: np.ndarray, cycle: list[float]) -> bool:
    """True when each value is followed by the one that comes after it in `cycle`."""
    after = dict(zip(cycle, [*cycle[1:], cycle[0]], strict=True))
    return all(after[a] == b for a, b in zip(row[:-1].tolist(), row[1:].tolist(), strict=True))


# -- cycle -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [1, 3, 7, 8, 50], ids=lambda n: f"{n} values")
def test_a_cycle_is_tiled_in_its_order(length: int) -> None:
    cycle = [float(10 + i) for i in range(length)]
    got = drawn({"cycle": cycle}, ["n", "length"])
    assert got.shape == (4, 50)
    assert all(follows(row, cycle) for row in got)
    assert set(got.ravel().tolist()) == set(cycle)


def test_a_cycle_longer_than_the_axis_is_cut() -> None:
    cycle = [float(i) for i in range(1000)]
    got = drawn({"cycle": cycle}, ["n", "length"])
    assert got.shape == (4, 50)
    assert all(follows(row, cycle) for row in got)


def test_rows_of_a_cycle_start_at_different_places() -> None:
    starts = drawn({"cycle": list(range(1000))}, ["n", "length"])[:, 0]
    assert len(set(starts.tolist())) == 4


def test_a_cycle_runs_along_the_last_axis_whatever_stands_before_it() -> None:
    cycle = [float(i) for i in range(1000)]
    got = drawn({"cycle": cycle}, ["n", 3, "2*length"])
    assert got.shape == (4, 3, 100)
    rows = got.reshape(12, 100)
    assert all(follows(row, cycle) for row in rows)
    assert len({row[0] for row in rows.tolist()}) > 6


def test_a_cycle_of_one_axis_is_one_row() -> None:
    got = drawn({"cycle": [1, 2, 3]}, ["length"])
    assert got.shape == (50,)
    assert follows(got, [1, 2, 3])


@pytest.mark.parametrize("dtype", ["int64", "int32", "float32", "float16"])
def test_a_cycle_has_the_declared_dtype(dtype: str) -> None:
    got = drawn({"cycle": [101, 2023, 102]}, ["n", "length"], dtype)
    assert got.dtype == dtype
    assert set(got.ravel().tolist()) == {101, 2023, 102}


def test_a_cycle_of_truth_values() -> None:
    got = drawn({"cycle": [True, False, False]}, ["n", "length"], "bool")
    assert got.dtype == np.bool_
    assert 4 * 16 <= got.sum() <= 4 * 17


def test_a_cycle_is_seeded() -> None:
    one, same, other = (drawn({"cycle": list(range(1000))}, ["n", "length"], seed=s) for s in (0, 0, 1))
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()


@pytest.mark.parametrize("cycle", [[], ["a", "b"], [[1, 2], [3]]], ids=["empty", "words", "ragged"])
def test_a_cycle_that_cannot_be_drawn_names_its_input(cycle: list[Any]) -> None:
    with pytest.raises(StepError) as e:
        drawn({"cycle": cycle}, ["n", "length"])
    assert e.value.fact == f"pipeline.inputs.x.example: {{'cycle': {cycle}}} cannot be drawn"
    assert e.value.fix


# -- the others ------------------------------------------------------------------------------------


def test_a_default_is_used_where_no_example_is_given() -> None:
    np.testing.assert_array_equal(drawn(None, ["n", 2], "int64", default=7), np.full((4, 2), 7))
    assert (drawn({"constant": 3}, ["n", 2], "int64", default=7) == 3).all()


def test_integers_reach_both_ends() -> None:
    got = drawn({"integers": [-1, 2]}, ["n", "length"], "int64")
    assert set(got.ravel().tolist()) == {-1, 0, 1, 2}


# -- sizes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("multiple", [1, 2, 8])
@pytest.mark.parametrize("part", [0, 0.1, 0.37, 0.5, 0.99, 1])
def test_a_size_on_the_way_is_a_multiple_within_the_bounds(multiple: int, part: float) -> None:
    low, high = 2 * multiple, 25 * multiple
    got = free_size(low, high, multiple, part)
    assert type(got) is int
    assert got % multiple == 0
    assert low <= got <= high
    assert abs(got - (low + part * (high - low))) <= multiple / 2


def test_the_ends_of_the_way_are_the_bounds() -> None:
    assert [free_size(16, 400, 16, part) for part in (0, 1)] == [16, 400]
    assert free_size(5, 5, 1, 0.5) == 5


def test_formulas_are_solved_in_the_order_they_need() -> None:
    formulas = {"samples": "hop*frames", "hop": "4*base", "frames": "length + 1"}
    sizes = with_formulas({"length": 9, "base": 2}, formulas)
    assert sizes == {"length": 9, "base": 2, "hop": 8, "frames": 10, "samples": 80}


def test_what_was_given_is_left_alone() -> None:
    free, formulas = {"length": 9}, {"twice": "2*length"}
    with_formulas(free, formulas)
    assert (free, formulas) == ({"length": 9}, {"twice": "2*length"})
