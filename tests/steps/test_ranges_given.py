from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from autovoice.errors import CalibrationError
from tests.steps.bench import Bench, Ran


def given(bench: Bench, change: Callable[[dict[str, Any]], Any] = lambda data: None) -> Path:
    """The user's file, as calibration wrote it and as they changed it."""
    data = bench.ranged().json("ranges.json")
    change(data)
    path = bench.root / "mine.json"
    path.write_text(json.dumps(data))
    return path


def taken(bench: Bench, path: Path) -> Ran:
    return bench.run("ranges_given", {}, {"export": "encoder.export"}, {"calibration.ranges": path})


def test_a_users_ranges_are_taken_and_their_file_is_only_read(bench: Bench) -> None:
    path = given(bench, lambda data: data["ranges"].update(x=[-8, 8]))
    before = path.read_bytes(), path.stat().st_mtime_ns, path.stat().st_ino
    ran = taken(bench, path)
    assert (path.read_bytes(), path.stat().st_mtime_ns, path.stat().st_ino) == before
    found = ran.json("ranges.json")
    assert found["ranges"]["x"] == [-8, 8]
    assert (found["samples"], found["method"]) == (None, "given")
    assert ran.result == {"tensors": 4, "samples": None}


def test_ranges_that_name_no_graph_are_taken(bench: Bench) -> None:
    path = given(bench, lambda data: data.pop("model"))
    expected = bench.ran["encoder.ranges"].json("ranges.json")
    found = taken(bench, path).json("ranges.json")
    assert (found["model"], found["ranges"]) == (expected["model"], expected["ranges"])


@pytest.mark.parametrize(
    ("change", "fact", "fix"),
    [
        (
            lambda data: data.update(model="0" * 64),
            "was made for another graph (000000000000…, this one is ",
            'calibrate again, or, if its ranges are right all the same, remove the line "model" from it',
        ),
        (lambda data: data["ranges"].pop("b"), "has no range for 'b'", "available: "),
        (
            lambda data: data["ranges"].update(bb=[0, 1]),
            "'bb' is no tensor of this model",
            "the ranges belong to another model; did you mean 'b'? available: ",
        ),
        (lambda data: data["ranges"].update(b=[1, 0]), "the range of 'b' is [1.0, 0.0]", "finite, low ≤ high"),
        (lambda data: data.pop("ranges"), "holds no ranges", '{"ranges": {"tensor": [low, high]}}'),
    ],
    ids=["another_model", "missing", "unknown", "reversed", "none"],
)
def test_ranges_that_are_not_the_models(
    bench: Bench, change: Callable[[dict[str, Any]], Any], fact: str, fix: str
) -> None:
    path = given(bench, change)
    with pytest.raises(CalibrationError, match=f"^{re.escape(f'{path}: {fact}')}.*\n  {re.escape(fix)}"):
        taken(bench, path)
