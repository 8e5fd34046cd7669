"""Sizes of dims from shapes, from one another, and within their bounds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from autovoice.dims.binding import Binder
from autovoice.dims.solving import fitted, joint_sizes, least_size, sizes_of
from autovoice.spec import Dim


def dim(**changes: Any) -> dict[str, Any]:
    return {"min": 1, "max": 100, "multiple": 1, "formula": None} | changes


@pytest.mark.parametrize(
    ("axis", "size", "found"),
    [
        pytest.param("2*n", 8, 4, id="exact"),
        pytest.param("2*n", 7, 4, id="the_next_above"),
        pytest.param("2*n", 1000, 21, id="beyond_all"),
        pytest.param("2*n", 1, 1, id="below_all"),
        pytest.param("n/3", 4, 12, id="quotient_with_a_remainder_on_the_way"),
        pytest.param("n/3", 1000, 21, id="quotient_beyond_all"),
        pytest.param("n + k", 9, 2, id="of_what_is_known"),
    ],
)
def test_the_least_size_of_a_symbol(axis: str, size: int, found: int) -> None:
    assert least_size(axis, size, "n", {"k": 7}, range(1, 21)) == found


def test_a_sample_tells_axes_and_the_one_unknown_of_arithmetic() -> None:
    inputs = {"x": {"shape": ["n", 3]}, "y": {"shape": ["2*m", "n"]}}
    assert sizes_of({"x": [5, 3], "y": [8, 5]}, inputs, {"n": dim(), "m": dim()}) == {"n": 5, "m": 4}


def test_feeds_of_a_quotient_are_bound() -> None:
    """Bisection comes by sizes that leave a remainder; the one that does not is there nevertheless."""
    tensors = {"x": {"dtype": "float32", "shape": ["n/3"], "default": None}}
    feeds = {"x": np.zeros(4, np.float32)}
    assert Binder(tensors, {"n": Dim("n", 1, 12, 20)}).bind(feeds).keys() == {"x"}


def test_a_dim_follows_once_what_it_reads_is_known() -> None:
    """In any order, also a derived dim, within its own bounds and in its own multiples."""
    dims = {
        "samples": dim(follows="2*frames", max=33, multiple=4),
        "frames": dim(follows="blocks + length"),
        "blocks": dim(formula="3*length"),
        "length": dim(),
    }
    assert joint_sizes(dims, {"samples": 1, "frames": 1, "length": 4}) == {
        "length": 4,
        "blocks": 12,
        "frames": 16,
        "samples": 32,
    }


def test_a_dim_that_was_chosen_follows_nothing() -> None:
    dims = {"samples": dim(follows="2*frames"), "frames": dim()}
    assert joint_sizes(dims, {"samples": 5, "frames": 9}, fixed=["samples"]) == {"frames": 9, "samples": 5}


def test_dims_that_follow_each_other_are_what_they_were() -> None:
    dims = {"a": dim(follows="b"), "b": dim(follows="a")}
    assert joint_sizes(dims, {"a": 5, "b": 9}) == {"a": 5, "b": 5}


@pytest.mark.parametrize(("size", "up", "found"), [(13, False, 12), (13, True, 16), (3, False, 8), (99, True, 40)])
def test_a_size_fitted_into_bounds(size: int, up: bool, found: int) -> None:
    assert fitted(size, 8, 40, 4, up) == found
