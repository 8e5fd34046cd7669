"""Samples of many lengths in groups of one shape each."""

from __future__ import annotations

import numpy as np
import pytest

from autovoice.backends.tensorrt.calibration_groups import Grouper, split
from autovoice.errors import CalibrationError
from tests.backends.tensorrt.calibrating import (
    INPUTS,
    PROFILE,
    Build,
    Feeds,
    feeds,
    samples_of,
    two_lines,
)


def test_lengths_are_cut_where_cropping_loses_least() -> None:
    parts = split([10, 11, 12, 30, 30, 31, 90, 100])
    assert [list(p) for p in parts] == [[0, 1, 2], [3, 4, 5], [6, 7]]


@pytest.mark.parametrize(
    ("lengths", "parts"),
    [([5], 1), ([5, 5, 5], 1), ([100, 101, 102], 1), ([5, 9], 2), ([1, 2, 3, 4, 5, 6, 7], 3), (list(range(1, 999)), 3)],
)
def test_there_are_at_most_three_groups_and_no_more_than_help(lengths: list[int], parts: int) -> None:
    made = split(lengths)
    assert len(made) == parts
    assert [i for p in made for i in p] == list(range(len(lengths)))


def test_groups_have_their_smallest_sizes_within_the_profile() -> None:
    grouper = Grouper(INPUTS, (PROFILE,))
    groups = grouper.groups(samples_of(60, 12, 200, 31, 30))
    assert [sorted(g.places) for g in groups] == [[1], [3, 4], [0, 2]]
    assert [g.shapes["mel"] for g in groups] == [(1, 4, 12), (1, 4, 30), (1, 4, 60)]
    assert [g.shapes["noise"] for g in groups] == [(1, 4, 24), (1, 4, 60), (1, 4, 120)]  # evaluated, not measured
    assert [g.shapes["units"] for g in groups] == [(1, 4), (1, 10), (1, 20)]  # 67 of the longest are clipped
    assert [g.batch for g in groups] == [1, 1, 1]


def test_samples_are_cropped_alike_and_never_padded() -> None:
    grouper = Grouper(INPUTS, (PROFILE,))
    samples = samples_of(30, 31, 12)
    long = grouper.groups(samples)[-1]
    for (name, cropped), frames in zip(grouper.cropped(long, samples), (30, 31), strict=True):
        whole = dict(samples())[name]
        assert {n: v.shape for n, v in cropped.items()} == dict(long.shapes)
        assert all(v.dtype == whole[n].dtype for n, v in cropped.items())
        np.testing.assert_array_equal(cropped["mel"], feeds(frames, whole["mel"][0, 0, 0])["mel"][..., :30])
        np.testing.assert_array_equal(cropped["tokens"], np.arange(30)[None])


def test_an_axis_whose_dims_nothing_else_tells_is_an_axis_of_its_own() -> None:
    inputs = {"x": {"dtype": "float32", "shape": [1, "256*frames"]}}
    profile = {"x": {"min": [1, 256], "opt": [1, 1024], "max": [1, 2048]}}
    groups = Grouper(inputs, (profile,)).groups(lambda: iter([("a", {"x": np.ones((1, 4096), np.float32)})]))
    assert [g.shapes for g in groups] == [{"x": (1, 2048)}]


def test_several_profiles_are_one_range() -> None:
    inputs = {"x": {"dtype": "float32", "shape": ["frames"]}}
    profiles = [{"x": {"min": [a], "opt": [b], "max": [b]}} for a, b in ((8, 16), (17, 64))]
    groups = Grouper(inputs, profiles).groups(lambda: iter([("a", {"x": np.ones(99, np.float32)})]))
    assert [g.shapes for g in groups] == [{"x": (64,)}]


@pytest.mark.parametrize(
    ("sample", "message"),
    [
        (feeds(12, mel=None), "sample s: input 'mel' is missing"),
        (feeds(12, mel=np.ones((1, 4, 12))), "sample s: input 'mel' is float64, expected float32"),
        (feeds(12, tokens=np.ones((1, 12), np.int32)), "sample s: input 'tokens' is int32, expected int64"),
        (feeds(12, voiced=np.ones(12, bool)), r"sample s: input 'voiced' has shape \[12\]"),
        (feeds(12, mel=np.ones((1, 5, 12), np.float32)), "sample s: input 'mel' axis 1 is 5, expected 4"),
        (feeds(12, tokens=np.ones((1, 13), np.int64)), r"sample s: input 'tokens' axis 1 \(frames\) is 13"),
        (feeds(4), "sample s: frames is 4, the profile begins at 8"),
    ],
    ids=["missing", "dtype", "integer", "rank", "static axis", "shared symbol", "too short"],
)
def test_a_sample_that_does_not_fit_is_named_with_its_input(build: Build, sample: Feeds, message: str) -> None:
    with pytest.raises(CalibrationError, match=message) as error:
        build.change(samples=lambda: iter([("s", sample)])).calibrate()
    two_lines(error)
    assert build.trt.built == []


def test_no_sample_at_all(build: Build) -> None:
    with pytest.raises(CalibrationError, match="there is no sample at all") as error:
        build.change(samples=lambda: iter(())).calibrate()
    two_lines(error)
    with pytest.raises(CalibrationError, match="neither samples nor a calibration cache") as error:
        build.change(samples=None).calibrate()
    two_lines(error)
