from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from autovoice.dims.solving import sizes_of
from autovoice.errors import CalibrationError
from autovoice.steps.context import Context
from autovoice.steps.coverage import run

DIMS: dict[str, Any] = {
    "batch": {"min": 1, "opt": 1, "max": 2},
    "frames": {"min": 8, "opt": 16, "max": 40},
}
INPUTS: dict[str, Any] = {"mel": {"shape": ["batch", 80, "frames"]}, "mask": {"shape": ["batch", "frames"]}}


def covered(tmp_path: Path, *frames: int, component: str = "encoder", batch: int = 1) -> dict[str, Any]:
    entries = [{"name": f"s{i}", "shapes": {"mel": [batch, 80, n], "mask": [batch, n]}} for i, n in enumerate(frames)]
    (tmp_path / "samples.json").write_text(json.dumps({"samples": entries}))
    fields = {"component": component, "inputs": INPUTS, "dims": DIMS}
    return run(Context(fields=fields, needs={"samples": tmp_path}, files={}, out=tmp_path))


def test_how_much_of_the_profile_is_seen(tmp_path: Path) -> None:
    assert covered(tmp_path, 12, 8, 30) == {
        "samples": 3,
        "notes": [],
        "coverage": {
            "batch": {"seen": [1, 1], "profile": [1, 2]},
            "frames": {"seen": [8, 30], "profile": [8, 40]},
        },
    }


@pytest.mark.parametrize(
    ("frames", "component", "message"),
    [
        (41, "encoder", "calibration of encoder, sample s1: frames is 41, the profile 8 … 40\n"),
        (7, "", "calibration of the pipeline, sample s1: frames is 7, the profile 8 … 40\n"),
    ],
    ids=["above", "below"],
)
def test_a_sample_outside_the_profile(frames: int, component: str, message: str, tmp_path: Path) -> None:
    point = "max" if frames > 8 else "min"
    with pytest.raises(CalibrationError) as raised:
        covered(tmp_path, 8, frames, component=component)
    assert str(raised.value) == f"{message}  leave it out, or cut it, or dims.frames.{point}={frames}"


@pytest.mark.parametrize(
    ("axis", "size", "expected"),
    [
        pytest.param("frames", 12, 12, id="symbol"),
        pytest.param("256*frames", 2560, 10, id="multiple"),
        pytest.param("frames + 3", 20, 17, id="sum"),
        pytest.param("frames // 4", 5, 20, id="floor_the_first_that_fits"),
        pytest.param("frames / 4", 5, 20, id="division"),
        pytest.param("2*frames", 100, 41, id="above_all_there_are"),
    ],
)
def test_the_size_that_an_axis_tells(axis: str, size: int, expected: int) -> None:
    assert sizes_of({"x": [size]}, {"x": {"shape": [axis]}}, DIMS) == {"frames": expected}


def test_a_symbol_of_its_own_settles_arithmetic_with_another() -> None:
    inputs = {"x": {"shape": ["batch*frames"]}, "y": {"shape": ["batch"]}}
    assert sizes_of({"x": [24], "y": [2]}, inputs, DIMS) == {"batch": 2, "frames": 12}


def test_fixed_axes_tell_nothing() -> None:
    assert sizes_of({"x": [1, 80]}, {"x": {"shape": [1, 80]}}, {}) == {}


@pytest.mark.parametrize(
    ("frames", "batch", "notes"),
    [
        ((12, 12), 1, ["all samples have frames 12, the profile 8 … 40"]),
        ((12, 13), 1, []),
        ((12, 13), 2, ["all samples have batch 2, the profile 1 … 2"]),
    ],
)
def test_a_dim_of_which_one_size_was_seen(
    frames: tuple[int, ...], batch: int, notes: list[str], tmp_path: Path
) -> None:
    assert covered(tmp_path, *frames, batch=batch)["notes"] == notes
