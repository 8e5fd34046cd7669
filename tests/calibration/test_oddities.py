from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autovoice.calibration.oddities import odd_samples
from autovoice.calibration.samples import SampleChecker, write_samples

INPUTS: dict[str, Any] = {
    "mel": {"dtype": "float32", "shape": [1, "frames"]},
    "tokens": {"dtype": "int64", "shape": [1, "frames"], "default": 0},
    "mask": {"dtype": "float32", "shape": [1, "frames"], "default": 0},
}


def usual(i: int) -> np.ndarray:
    return np.random.default_rng(i).standard_normal((1, 20)).astype(np.float32)


def told(tmp_path: Path, mels: dict[str, np.ndarray], count: int = 8, **more: np.ndarray) -> list[str]:
    """Of eight usual samples and the ones given."""
    samples = [(f"s{i}", {"mel": usual(i)}) for i in range(count)]
    samples += [(name, {"mel": mel, **more}) for name, mel in mels.items()]
    checker = SampleChecker(INPUTS, {}, ["frames"], "encoder")
    return odd_samples(write_samples(tmp_path, samples, checker, 1), INPUTS)


ZEROS = np.zeros((1, 20), np.float32)


def test_usual_samples_and_defaults_are_not_odd(tmp_path: Path) -> None:
    assert told(tmp_path, {}) == []


@pytest.mark.parametrize(
    ("mels", "expected"),
    [
        ({"a.wav": ZEROS}, ["'mel' is all zero in sample a.wav"]),
        ({"a.wav": ZEROS - 3}, ["'mel' is -3 throughout in sample a.wav"]),
        ({"masked": ZEROS + 1}, []),
        (
            {"loud": usual(9) * np.float32(1e30)},
            ["'mel' reaches 2.52e+30 in loud, 2.33 in most: its range holds nothing else"],
        ),
        ({"loud": usual(9) * np.float32(1e5)}, []),
        ({"again": usual(0), "more": usual(0)}, ["samples s0, again, more hold the same values"]),
        (
            {f"z{i}": ZEROS[:, :i] for i in range(2, 7)},
            ["'mel' is all zero in samples z2, z3, z4 and 2 more"],
        ),
    ],
    ids=["zero", "constant", "a_mask", "outlier", "merely_loud", "repeated", "many"],
)
def test_what_is_odd_is_told_by_the_samples_names(
    mels: dict[str, np.ndarray], expected: list[str], tmp_path: Path
) -> None:
    assert told(tmp_path, mels) == expected


def test_all_of_them(tmp_path: Path) -> None:
    few = "only 2 samples: ranges of so few say little"
    notes = told(tmp_path, {"a": ZEROS, "b": ZEROS[:, :5]}, count=0)
    assert notes == [few, "'mel' is all zero in all 2 samples"]


def test_one_number_is_neither_constant_nor_odd(tmp_path: Path) -> None:
    assert told(tmp_path, {"a": ZEROS[:, :1]}) == []
