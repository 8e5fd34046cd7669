"""Ranges out of what was observed, and whether the patterns of a method mean anything."""

from __future__ import annotations

from hashlib import sha256

import pytest

from autovoice.errors import CalibrationError
from tests.steps.bench import MINMAX, Bench, observe_fields

NEEDS = {"export": "encoder.export", "samples": "samples"}


@pytest.fixture
def sampled(bench: Bench) -> Bench:
    bench.exported("encoder")
    bench.sampled(7)
    return bench


def test_ranges_say_of_which_graph_how_many_samples_and_how(sampled: Bench) -> None:
    sampled.run("observe", observe_fields(), NEEDS)
    ran = sampled.run("ranges", MINMAX, {"export": "encoder.export", "observe": "observe"})
    assert ran.result == {"tensors": 4, "samples": 7, "matched": []}
    found = ran.json("ranges.json")
    model = sampled.ran["encoder.export"].folder / "model.onnx"
    assert found["model"] == sha256(model.read_bytes()).hexdigest()
    assert (found["samples"], found["method"]) == (7, {"default": "minmax"})
    assert all(low <= high for low, high in found["ranges"].values())


@pytest.mark.parametrize(("method", "shards"), [("minmax", 3), ("entropy", 9)])
def test_shards_change_no_byte(sampled: Bench, method: str, shards: int) -> None:
    """Nor do more shards than there are samples."""
    counted = method != "minmax"
    for i in range(shards):
        sampled.run(f"observe_{i}", observe_fields(counted, (i, shards)), NEEDS, kind="observe")
    sampled.run("observe", observe_fields(counted), NEEDS)
    fields = MINMAX | {"method": {"default": method}}
    needs = {f"observe_{i}": f"observe_{i}" for i in range(shards)}
    several = sampled.run("several", fields, {"export": "encoder.export", **needs}, kind="ranges")
    one = sampled.run("one", fields, {"export": "encoder.export", "observe": "observe"}, kind="ranges")
    assert (several.folder / "ranges.json").read_bytes() == (one.folder / "ranges.json").read_bytes()


def test_a_narrower_percentile_is_a_narrower_range(sampled: Bench) -> None:
    sampled.run("observe", observe_fields(True), NEEDS)
    needs = {"export": "encoder.export", "observe": "observe"}
    wide, narrow = (
        sampled.run(f"at{p}", {"method": {"default": "percentile"}, "percentile": p}, needs, kind="ranges")
        for p in (99.99, 90.0)
    )
    assert wide.json("ranges.json")["method"] == {"percentile": 99.99, "default": "percentile"}
    ranges = wide.json("ranges.json")["ranges"]
    for tensor, (low, high) in narrow.json("ranges.json")["ranges"].items():
        assert ranges[tensor][0] <= low <= high <= ranges[tensor][1]
    assert narrow.json("ranges.json")["ranges"] != ranges


def test_a_pattern_has_a_method_of_its_own(sampled: Bench) -> None:
    sampled.run("observe", observe_fields(True), NEEDS)
    method = {"b*": "mse", "default": "minmax"}
    needs = {"export": "encoder.export", "observe": "observe"}
    ran = sampled.run("ranges", MINMAX | {"method": method}, needs)
    assert ran.result["matched"] == ["b*"]
    sampled.run("methods", {"patterns": ["b*"]}, {"ranges:encoder": "ranges"})


def test_a_pattern_that_no_component_has(sampled: Bench) -> None:
    sampled.run("observe", observe_fields(), NEEDS)
    sampled.run("ranges", MINMAX, {"export": "encoder.export", "observe": "observe"})
    with pytest.raises(CalibrationError) as raised:
        sampled.run("methods", {"patterns": ["xx"]}, {"ranges:encoder": "ranges"})
    assert raised.value.fact == "calibration.method: 'xx' matches no tensor"
    assert raised.value.fix.startswith("did you mean 'x'? available: ")
