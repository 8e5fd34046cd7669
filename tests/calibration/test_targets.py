from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from autovoice.calibration.targets import called
from autovoice.errors import CalibrationError

HERE = "tests.steps.user_code"
GIVEN = {"inputs": {"x": {"dtype": "float32"}}, "component": "encoder"}


def test_it_is_given_what_its_signature_names() -> None:
    found = called("calibration.source", {"target": f"{HERE}.rows", "kwargs": {"count": 2}}, GIVEN)
    assert [list(sample) for sample in found] == [["x"], ["x"]]


def test_its_own_arguments_win() -> None:
    own = {"inputs": {"y": {"dtype": "float32"}}, "count": 1}
    assert [list(s) for s in called("calibration.source", {"target": f"{HERE}.rows", "kwargs": own}, GIVEN)] == [["y"]]


@pytest.mark.parametrize(
    ("name", "kwargs", "fact", "fix"),
    [
        (
            "rows",
            {"cuont": 3},
            f"here: {HERE}.rows: got an unexpected keyword argument 'cuont'",
            "its arguments: inputs, count, rows, without",
        ),
        ("row", {}, f"here: {HERE} has no 'row'", "did you mean 'rows'? available: "),
        (
            "raises",
            {},
            f"here: {HERE}.raises raised RuntimeError: the microphone is off",
            "the full traceback is in the step's log",
        ),
    ],
    ids=["keyword", "name", "raises"],
)
def test_what_cannot_be_called(name: str, kwargs: dict[str, Any], fact: str, fix: str) -> None:
    with pytest.raises(CalibrationError, match=f"^{re.escape(fact)}\n  {re.escape(fix)}"):
        called("here", {"target": f"{HERE}.{name}", "kwargs": kwargs}, GIVEN)


def test_a_module_that_does_not_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "needs_absent.py").write_text("import absent_library\n")
    monkeypatch.syspath_prepend(tmp_path)
    fact = "here: importing needs_absent raised ModuleNotFoundError: No module named 'absent_library'"
    with pytest.raises(CalibrationError, match=f"^{re.escape(fact)}\n"):
        called("here", {"target": "needs_absent.samples", "kwargs": {}}, GIVEN)
