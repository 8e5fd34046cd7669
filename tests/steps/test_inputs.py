from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from autovoice.measure.points import POINTS, load_point
from autovoice.steps.inputs import sizes_at
from tests.steps.bench import FLOAT, Bench


def dim(least: int, opt: int, most: int, **more: Any) -> dict[str, Any]:
    return {"min": least, "opt": opt, "max": most, "formula": None, "multiple": 1} | more


def test_one_file_a_point_at_its_sizes(bench: Bench) -> None:
    tensors = {"x": FLOAT | {"default": None, "example": {"uniform": [2, 3]}}}
    ran = bench.run("inputs", {"tensors": tensors, "dims": {"n": dim(1, 4, 9)}, "seed": 0})
    sizes = {"min": 1, "opt": 4, "max": 9, "between": 7}
    assert ran.result == {"points": {p: {"n": n} for p, n in sizes.items()}}
    for point in POINTS:
        x = load_point(ran.folder, point)["x"]
        assert x.shape == (sizes[point], 8)
        assert 2 <= x.min() < x.max() <= 3


def test_an_input_is_the_same_whatever_else_there_is(bench: Bench) -> None:
    x = {"x": FLOAT | {"default": None, "example": None}}
    dims = {"n": dim(1, 4, 9)}
    alone = bench.run("alone", {"tensors": x, "dims": dims, "seed": 0}, kind="inputs")
    more = bench.run("more", {"tensors": {"before": x["x"], **x}, "dims": dims, "seed": 0}, kind="inputs")
    found = load_point(more.folder, "opt")
    assert np.array_equal(load_point(alone.folder, "opt")["x"], found["x"])
    assert not np.array_equal(found["x"], found["before"])


@pytest.mark.parametrize(
    ("profile", "between"),
    [
        (dim(1, 4, 9), 7),
        (dim(1, 4, 10), 7),
        (dim(1, 9, 9), 5),
        (dim(16, 256, 2048, multiple=16), 1152),
        (dim(4, 4, 4), 4),
    ],
    ids=["odd", "odd_rather_than_even", "towards_min_where_opt_is_max", "multiple", "fixed"],
)
def test_a_size_between(profile: dict[str, Any], between: int) -> None:
    assert sizes_at("between", {"n": profile}) == {"n": between}


def test_dims_that_follow_others() -> None:
    dims = {"n": dim(2, 4, 10), "twice": dim(4, 8, 20, follows="2*n"), "derived": dim(0, 0, 0, formula="n + 1")}
    assert sizes_at("between", dims) == {"n": 7, "twice": 14, "derived": 8}
    assert sizes_at("max", dims) == {"n": 10, "twice": 20, "derived": 11}
