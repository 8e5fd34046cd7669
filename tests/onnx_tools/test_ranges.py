from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autovoice.errors import CalibrationError
from autovoice.onnx_tools.ranges import (
    check_complete,
    matched,
    method_of,
    model_of,
    ranges_from,
    read_ranges,
    write_ranges,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ranges.json"


def written(path: Path, ranges: dict[str, tuple[float, float]], **more: Any) -> Path:
    write_ranges(path, **{"model": "ab12", "samples": 3, "method": {"default": "minmax"}} | more, ranges=ranges)
    return path


# -- there and back again --------------------------------------------------------------------------


def test_float32_numbers_read_back_to_the_same_bits(path: Path) -> None:
    rng = np.random.default_rng(0)
    numbers = rng.integers(0, 2**32, 4000, np.uint32).view(np.float32)
    numbers = numbers[np.isfinite(numbers)]
    pairs = np.sort(numbers[: len(numbers) // 2 * 2].reshape(-1, 2), axis=1)
    ranges = {f"t{i}": (float(low), float(high)) for i, (low, high) in enumerate(pairs)}
    back = read_ranges(written(path, ranges))
    got = np.array([back[f"t{i}"] for i in range(len(pairs))], np.float32)
    assert np.array_equal(got.view(np.uint32), pairs.view(np.uint32))


@pytest.mark.parametrize(
    "pair",
    [(0.0, 0.0), (-0.0, 0.0), (2.0**-149, 1.0), (-3.4028234663852886e38, 3.4028234663852886e38), (0.1, 0.1)],
    ids=["zero", "minus_zero", "denormal", "largest", "one_value"],
)
def test_numbers_at_the_edge(pair: tuple[float, float], path: Path) -> None:
    back = np.array(read_ranges(written(path, {"t": pair}))["t"], np.float32)
    assert np.array_equal(back.view(np.uint32), np.array(pair, np.float32).view(np.uint32))


def test_numbers_are_rounded_to_float32(path: Path) -> None:
    assert read_ranges(written(path, {"t": (0.1, 1 / 3)}))["t"] == (float(np.float32(0.1)), float(np.float32(1 / 3)))


def test_one_tensor_a_line_in_the_order_of_names(path: Path) -> None:
    ranges = {"b": (-1.0, 2.0), "/a/Conv_output_0": (0.0, 0.5), 'with "quotes", ü': (0.0, 1.0)}
    text = written(path, ranges, method={"default": "minmax", "b*": "mse"}).read_text()
    assert text == (
        "{\n"
        ' "model": "ab12",\n'
        ' "samples": 3,\n'
        ' "method": {"default": "minmax", "b*": "mse"},\n'
        ' "ranges": {\n'
        '  "/a/Conv_output_0": [0.0, 0.5],\n'
        '  "b": [-1.0, 2.0],\n'
        '  "with \\"quotes\\", \\u00fc": [0.0, 1.0]\n'
        " }\n"
        "}\n"
    )
    assert read_ranges(path) == ranges
    assert model_of(path) == "ab12"


def test_the_order_they_are_given_in_does_not_matter(path: Path, tmp_path: Path) -> None:
    ranges = {"b": (-1.0, 2.0), "a": (0.0, 0.5)}
    other = written(tmp_path / "other.json", dict(reversed(ranges.items())))
    assert written(path, ranges).read_bytes() == other.read_bytes()


def test_no_tensor_at_all(path: Path) -> None:
    assert json.loads(written(path, {}, samples=None).read_text())["samples"] is None
    assert read_ranges(path) == {}


# -- files of a user's own -------------------------------------------------------------------------


def test_a_file_of_ranges_alone(path: Path) -> None:
    path.write_text('{"ranges": {"x": [-1, 2]}}')
    assert read_ranges(path) == {"x": (-1.0, 2.0)}
    assert model_of(path) is None


@pytest.mark.parametrize(
    ("text", "fact", "fix"),
    [
        ("{", "cannot be read as ranges", "Expecting property name"),
        ("", "cannot be read as ranges", "Expecting value"),
        ("[1, 2]", "holds no ranges", '{"ranges": {"tensor": [low, high]}}'),
        ('{"x": [0, 1]}', "holds no ranges", '{"ranges": {"tensor": [low, high]}}'),
        ('{"ranges": [["x", 0, 1]]}', "holds no ranges", '{"ranges": {"tensor": [low, high]}}'),
        ('{"ranges": {"x": [NaN, 1]}}', "the range of 'x' is [nan, 1.0]", "finite, low ≤ high"),
        ('{"ranges": {"x": [0, Infinity]}}', "the range of 'x' is [0.0, inf]", "finite, low ≤ high"),
        ('{"ranges": {"x": [-Infinity, 0]}}', "the range of 'x' is [-inf, 0.0]", "finite, low ≤ high"),
        ('{"ranges": {"x": [2, 1]}}', "the range of 'x' is [2.0, 1.0]", "finite, low ≤ high"),
        ('{"ranges": {"x": [0, 1, 2]}}', "the range of 'x' is [0, 1, 2]", "two numbers, [low, high]"),
        ('{"ranges": {"x": [1]}}', "the range of 'x' is [1]", "two numbers, [low, high]"),
        ('{"ranges": {"x": 1}}', "the range of 'x' is 1", "two numbers, [low, high]"),
        ('{"ranges": {"x": null}}', "the range of 'x' is None", "two numbers, [low, high]"),
        ('{"ranges": {"x": [null, 1]}}', "the range of 'x' is [None, 1]", "two numbers, [low, high]"),
        ('{"ranges": {"x": ["low", "high"]}}', "the range of 'x' is ['low', 'high']", "two numbers, [low, high]"),
        ('{"ranges": {"x": ["0", "1"]}}', "the range of 'x' is ['0', '1']", "two numbers, [low, high]"),
        ('{"ranges": {"x": "01"}}', "the range of 'x' is '01'", "two numbers, [low, high]"),
        ('{"ranges": {"x": {"0": 1, "2": 3}}}', "the range of 'x' is {'0': 1, '2': 3}", "two numbers, [low, high]"),
        ('{"ranges": {"x": [0, 1e39]}}', "the range of 'x' is [0", "finite"),
    ],
    ids=[
        *("not_json", "empty", "list", "no_ranges", "ranges_no_mapping", "nan", "inf", "minus_inf", "order", "three"),
        *("one", "number", "null", "null_low", "words", "numbers_as_text", "text", "mapping", "above_float32"),
    ],
)
def test_what_are_no_ranges(text: str, fact: str, fix: str, path: Path) -> None:
    path.write_text(text)
    with pytest.raises(CalibrationError) as raised:
        read_ranges(path)
    assert raised.value.fact.startswith(f"{path}: {fact}")
    assert fix in raised.value.fix


def test_no_file(path: Path) -> None:
    with pytest.raises(CalibrationError, match=r"ranges\.json: cannot be read as ranges\n  .*No such file"):
        read_ranges(path)


def test_bytes_that_are_no_text(path: Path) -> None:
    path.write_bytes(b"\xff\xfe\x00{")
    with pytest.raises(CalibrationError, match=r"ranges\.json: cannot be read as ranges"):
        read_ranges(path)


def test_plain_data_of_a_calibrator() -> None:
    got = ranges_from({"x": np.array([-1, 2], np.float32), "y": (0, 1)}, "calibrator f")
    assert got == {"x": (-1.0, 2.0), "y": (0.0, 1.0)}
    with pytest.raises(CalibrationError, match=r"calibrator f: holds no ranges"):
        ranges_from(None, "calibrator f")


# -- complete --------------------------------------------------------------------------------------

TENSORS = ["audio", "features", "pitch"]


def complete(*names: str) -> None:
    check_complete({n: (0.0, 1.0) for n in names}, TENSORS, "mine.json")


def test_a_range_for_each_and_for_nothing_else() -> None:
    complete("pitch", "audio", "features")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            ["audio", "pitch", "feature"],
            "mine.json: has no range for 'features'\n  did you mean 'feature'? available: ",
        ),
        (["pitch"], "mine.json: has no range for 'audio', and for 1 more\n  available: pitch"),
        ([], "mine.json: has no range for 'audio', and for 2 more\n  available: none"),
        (
            [*TENSORS, "pitches"],
            "mine.json: 'pitches' is no tensor of this model\n"
            "  the ranges belong to another model; did you mean 'pitch'? available: audio, features, pitch",
        ),
    ],
    ids=["near_miss", "several", "none", "extra"],
)
def test_ranges_that_do_not_cover_the_model(names: list[str], message: str) -> None:
    with pytest.raises(CalibrationError, match=f"^{re.escape(message)}"):
        complete(*names)


# -- methods by pattern ----------------------------------------------------------------------------

METHODS = {"default": "minmax", "/enc/*": "mse", "/enc/last": "entropy", "*_y": "percentile"}


@pytest.mark.parametrize(
    ("tensor", "method"),
    [
        ("x", "minmax"),
        ("default", "minmax"),
        ("/enc/conv", "mse"),
        ("/enc/last", "mse"),
        ("/dec/_y", "percentile"),
        ("/ENC/conv", "minmax"),
    ],
    ids=["rest", "default_is_no_pattern", "pattern", "first_match_wins", "suffix", "case_counts"],
)
def test_method_of_a_tensor(tensor: str, method: str) -> None:
    assert method_of(tensor, METHODS) == method


def test_patterns_that_mean_something() -> None:
    assert matched(METHODS, ["/enc/last", "a_y"]) == [p for p in METHODS if p != "default"]
    assert matched(METHODS, ["/enc/lst"]) == [p for p in METHODS if p not in ("default", "/enc/last", "*_y")]
    assert matched({"default": "minmax"}, []) == []
