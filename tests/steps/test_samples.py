"""What a source gives, checked and written; what each check says is for tests/calibration."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autovoice.errors import CalibrationError
from autovoice.store.npz import read_npz
from tests.steps.bench import FLOAT, Bench, samples_fields

X = {"x": FLOAT | {"default": None, "example": None}}


@pytest.mark.parametrize("source", ["rows", "Reader"])
def test_a_function_and_an_object_with_get_next(bench: Bench, source: str) -> None:
    ran = bench.run("samples", samples_fields("encoder", X, source, count=8))
    assert ran.result == {"samples": 8, "notes": []}
    assert [e["name"] for e in ran.json("samples.json")["samples"]] == [str(i) for i in range(8)]
    assert [read_npz(p)["x"].shape for p in sorted(ran.folder.glob("*.npz"))] == [(3, 8)] * 8


def test_a_source_is_told_its_component_and_files(bench: Bench, tmp_path: Path) -> None:
    files = {}
    for name in ("a.txt", "b.txt"):
        files[f"data {name}"] = tmp_path / name
        files[f"data {name}"].write_text(name)
    ran = bench.run("samples", samples_fields("encoder", X, "named_by_files"), files=files)
    assert [e["name"] for e in ran.json("samples.json")["samples"]] == ["encoder a.txt 5", "encoder b.txt 5"]


def test_at_level_pipeline_an_input_may_be_left_to_whoever_reads_it(bench: Bench) -> None:
    inputs = X | {"gains": FLOAT | {"default": None, "example": None}}
    ran = bench.run("samples", samples_fields("", inputs, "rows", without=["gains"]))
    assert read_npz(ran.folder / "00000.npz").keys() == {"x"}


def test_a_default_stands_in_for_an_input_that_is_not_given(bench: Bench) -> None:
    inputs = X | {"present": {"dtype": "bool", "shape": ["n"], "default": True, "example": None}}
    ran = bench.run("samples", samples_fields("encoder", inputs, "rows", without=["present"]))
    present = read_npz(ran.folder / "00000.npz")["present"]
    assert (present.dtype, present.shape, present.all()) == (np.dtype(bool), (3,), True)


@pytest.mark.parametrize(
    ("source", "kwargs", "fact", "fix"),
    [
        (
            "raises",
            {},
            "calibration.source: tests.steps.user_code.raises raised RuntimeError: the microphone is off",
            "the full traceback is in the step's log",
        ),
        (
            "raises_later",
            {},
            "calibration of encoder: the source raised RuntimeError: the tape ran out",
            "the full traceback is in the step's log",
        ),
        ("nothing", {}, "calibration of encoder: ", ""),
        ("number", {}, "calibration of encoder: ", ""),
        (
            "numbers",
            {},
            "calibration of encoder, sample 0: is a int",
            "a source yields {input: array}, or (name, {input: array})",
        ),
        (
            "rows",
            {"without": ["x"]},
            "calibration of encoder, sample 0: input 'x' is missing",
            "given: none; inputs: x",
        ),
        (
            "rows",
            {"count": 1},
            "calibration of encoder: 1 sample, at least 2 are needed",
            "give more data (calibration.files), or say that it is enough: calibration.min_samples=1",
        ),
    ],
    ids=["raises", "raises_later", "nothing", "number", "numbers", "missing", "too_few"],
)
def test_a_source_that_is_wrong(bench: Bench, source: str, kwargs: dict[str, Any], fact: str, fix: str) -> None:
    with pytest.raises(CalibrationError, match=rf"^{re.escape(fact)}.*\n  {re.escape(fix)}"):
        bench.run("samples", samples_fields("encoder", X, source, **kwargs))
