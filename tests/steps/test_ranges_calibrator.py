from __future__ import annotations

import re

import pytest

from autovoice.errors import CalibrationError
from tests.steps.bench import FLOAT, Bench, Ran


def calibrated(bench: Bench, name: str, **kwargs: object) -> Ran:
    target = f"tests.steps.user_code.{name}"
    bench.exported("encoder")
    calibrator = {"target": target, "kwargs": kwargs}
    fields = {"component": "encoder", "calibrator": calibrator, "inputs": {"x": FLOAT}}
    return bench.run("ranges_calibrator", fields, {"export": "encoder.export"})


def test_a_calibrator_gives_the_ranges(bench: Bench) -> None:
    ran = calibrated(bench, "fixed", bound=6)
    found = ran.json("ranges.json")
    assert found["ranges"] == {t: [-6, 6] for t in ("a", "b", "x", "y")}
    assert (found["samples"], found["method"]) == (None, "tests.steps.user_code.fixed")
    assert ran.result == {"tensors": 4, "samples": None}


@pytest.mark.parametrize(
    ("name", "fact", "fix"),
    [
        ("incomplete", "has no range for 'b'", "available: "),
        ("too_much", "'bb' is no tensor of this model", "the ranges belong to another model; did you mean 'b'?"),
        ("not_finite", "the range of 'a' is [-1.0, nan]", "finite, low ≤ high"),
        ("backwards", "the range of 'a' is [1.0, -1.0]", "finite, low ≤ high"),
        ("single", "the range of 'a' is 1.0", "two numbers, [low, high]"),
        ("beyond", "the range of 'a' is [-1e+39, 1e+39]", "finite, low ≤ high"),
        ("no_ranges", "holds no ranges", '{"ranges": {"tensor": [low, high]}}'),
    ],
)
def test_a_calibrator_that_returns_something_else(bench: Bench, name: str, fact: str, fix: str) -> None:
    told = f"calibrator tests.steps.user_code.{name}: {fact}"
    with pytest.raises(CalibrationError, match=f"^{re.escape(told)}\n  {re.escape(fix)}"):
        calibrated(bench, name)


def test_a_calibrator_that_raises(bench: Bench) -> None:
    fact = "calibration.calibrator: tests.steps.user_code.no_table raised LookupError: no such table"
    with pytest.raises(CalibrationError, match=f"^{re.escape(fact)}\n  the full traceback is in the step's log$"):
        calibrated(bench, "no_table")


def test_a_calibrator_that_does_not_exist(bench: Bench) -> None:
    fact = "calibration.calibrator: tests.steps.user_code has no 'fixd'"
    with pytest.raises(CalibrationError, match=f"^{re.escape(fact)}\n  did you mean 'fixed'"):
        calibrated(bench, "fixd")
