from __future__ import annotations

from typing import Any

import pytest

from autovoice.config.dims import read_dims
from autovoice.errors import Fault
from autovoice.spec import Dim

FRAMES = {"min": 16, "opt": 256, "max": 1024}


def bounds(dim: Dim) -> tuple[int, int, int]:
    return dim.min, dim.opt, dim.max


def read(node: Any) -> dict[str, Dim]:
    faults: list[Fault] = []
    dims = read_dims(node, faults)
    assert faults == []
    return dims


def faults_of(node: Any) -> list[str]:
    faults: list[Fault] = []
    read_dims(node, faults)
    return [str(f) for f in faults]


def test_free_dim() -> None:
    (dim,) = read({"frames": FRAMES | {"trace": 24, "multiple": 8, "buckets": [64, 256]}}).values()
    assert dim == Dim("frames", 16, 256, 1024, multiple=8, trace=24, buckets=(64, 256))


@pytest.mark.parametrize("node", ["2*frames - 1", {"formula": "2*frames - 1"}], ids=["short", "long"])
def test_derived_dim_follows_its_formula(node: Any) -> None:
    dim = read({"double": node, "frames": FRAMES})["double"]
    assert (bounds(dim), dim.formula, dim.profile) == ((31, 511, 2047), "2*frames-1", None)


def test_bounds_that_follow_another_dim_leave_it_free() -> None:
    dims = read({"frames": FRAMES, "samples": {"profile": "ceil(frames*256*16000/22050)", "trace": 4800}})
    assert bounds(dims["samples"]) == (2973, 47555, 190218)
    assert dims["samples"].formula is None
    assert dims["samples"].profile == "ceil(frames*256*16000/22050)"


def test_an_own_bound_wins_over_the_profile_point_by_point() -> None:
    dims = read({"frames": FRAMES, "samples": {"profile": "100*frames", "max": 5}})
    assert bounds(dims["samples"]) == (1600, 25600, 5)
    assert dims["samples"].profile == "100*frames"


def test_with_three_own_bounds_the_profile_is_followed_no_more() -> None:
    dims = read({"frames": FRAMES, "samples": {"profile": "100*frames", "min": 1, "opt": 2, "max": 3}})
    assert (bounds(dims["samples"]), dims["samples"].profile) == ((1, 2, 3), None)


def test_formulas_chain_in_any_order() -> None:
    dims = read({"c": "b + 1", "b": "2*a", "a": {"min": 1, "opt": 2, "max": 3}})
    assert bounds(dims["c"]) == (3, 5, 7)


def test_traced_sizes_differ_unless_given() -> None:
    dims = read({"a": FRAMES, "b": FRAMES, "c": FRAMES | {"trace": 7}})
    assert [d.trace for d in dims.values()] == [24, 26, 7]


@pytest.mark.parametrize(
    ("node", "expected"),
    [
        pytest.param(
            [1], ["dims: must be a mapping, got [1]\n  dims: {name: {min: 1, opt: 2, max: 3}}, in its file"], id="list"
        ),
        pytest.param(
            {"frames": 5.5},
            [
                "dims.frames: must be a mapping, got 5.5\n  dims.frames='{min: 1, opt: 2, max: 3}'",
                *(f"dims.frames.{p}: is required" for p in ("min", "opt", "max")),
            ],
            id="number",
        ),
        pytest.param(
            {"frames": {"min": 1, "max": 3}},
            ['dims.frames.opt: is required\n  a dim is {min: 1, opt: 2, max: 3}, or a formula such as "2*frames"'],
            id="missing_bound",
        ),
        pytest.param(
            {"frames": FRAMES | {"opt": 2.5}},
            [
                "dims.frames.opt: must be a whole number, got 2.5\n"
                '  a dim is {min: 1, opt: 2, max: 3}, or a formula such as "2*frames"'
            ],
            id="fraction",
        ),
        pytest.param(
            {"frames": FRAMES, "twice": "2*frmes"},
            ["dims.twice: reads the unknown dim 'frmes'\n  did you mean 'frames'? available: frames, twice"],
            id="unknown_symbol",
        ),
        pytest.param(
            {"a": "b", "b": "c", "c": "a"},
            [
                "dims.a: dims read each other: a → b → c → a\n  give one numbers: dims.a='{min: 1, opt: 2, max: 3}'",
                "dims.b: dims read each other: b → c → a → b",
                "dims.c: dims read each other: c → a → b → c",
            ],
            id="cycle",
        ),
        pytest.param({"a": "a + 1"}, ["dims.a: dims read each other: a → a"], id="reads_itself"),
        pytest.param(
            {"frames": FRAMES, "half": "frames/32"},
            [
                "dims.half: 'frames/32' is 0.5, not a whole number\n"
                "  a // b and floor(a/b) round down, ceil(a/b) rounds up"
            ],
            id="fractional_formula",
        ),
        pytest.param(
            {"frames": FRAMES, "x": "frames **"},
            [
                "dims.x.formula: 'frames **' is not arithmetic over dimensions\n"
                "  use + - * // % min() max() ceil() floor(), "
            ],
            id="syntax",
        ),
        pytest.param(
            {"frames": FRAMES, "twice": {"formula": "2*frames", "max": 9}},
            ["dims.twice.max: is 9, but a derived dim follows its formula\n  remove it, or the formula"],
            id="bound_of_derived",
        ),
        pytest.param(
            {"frames": FRAMES | {"maximum": 3}},
            ["dims.frames.maximum: unknown key 'maximum'"],
            id="unknown_key",
        ),
        pytest.param(
            {"frames": FRAMES | {"multiple": 0}},
            ["dims.frames.multiple: must be at least 1\n  dims.frames.multiple=1"],
            id="multiple",
        ),
        pytest.param(
            {"frames": FRAMES | {"trace": -2}},
            ["dims.frames.trace: must be at least 1\n  dims.frames.trace=null"],
            id="trace",
        ),
        pytest.param(
            {"frames": FRAMES | {"buckets": [32, "64"]}},
            ["dims.frames.buckets: must be whole numbers, got [32, '64']\n  dims.frames.buckets=[128,512]"],
            id="buckets",
        ),
        pytest.param(
            {"frames": FRAMES | {"min": 0.5}, "half": "frames/1024"},
            ["dims.frames.min: must be a whole number, got 0.5\n"],
            id="what_follows_a_fault_has_none",
        ),
    ],
)
def test_faults(node: Any, expected: list[str]) -> None:
    found = faults_of(node)
    assert [got[: len(want)] for got, want in zip(found, expected, strict=True)] == expected


def test_faults_of_all_dims_at_once() -> None:
    found = faults_of({"a": {"min": 1, "opt": 1}, "b": "2*nobody", "c": {"min": 1, "opt": 1, "max": "x*"}})
    assert [f.partition(":")[0] for f in found] == ["dims.a.max", "dims.c.max", "dims.b"]


def test_a_number_is_a_fixed_size() -> None:
    faults: list[Fault] = []
    dim = read_dims({"batch": 3}, faults)["batch"]
    assert (dim.min, dim.opt, dim.max, faults) == (3, 3, 3, [])


@pytest.mark.parametrize("buckets", [{}, {"buckets": None}, {"buckets": []}], ids=["absent", "null", "empty"])
def test_no_buckets(buckets: Any) -> None:
    assert read({"frames": FRAMES | buckets})["frames"].buckets == ()
