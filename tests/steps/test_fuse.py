"""Two exports as one file, and the ranges of both under its names."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import onnx
import pytest

from tests.onnx_models import run as run_onnx
from tests.steps.bench import Bench, Ran

FIELDS: dict[str, Any] = {
    "members": [
        {"name": "encoder", "inputs": {"x": {"wire": "x"}}, "outputs": {"y": {"wire": "features"}}},
        {"name": "decoder", "inputs": {"x": {"wire": "features"}}, "outputs": {"y": {"wire": "audio"}}},
    ],
    "inputs": ["x"],
    "outputs": ["audio"],
}
EXPORTS = {f"export:{m}": f"{m}.export" for m in ("encoder", "decoder")}


@pytest.fixture
def fused(bench: Bench) -> Ran:
    for name in ("encoder", "decoder"):
        bench.ranged(name)
    return bench.run("fuse", FIELDS, EXPORTS)


def test_one_graph_computes_what_both_do(bench: Bench, fused: Ran) -> None:
    assert fused.result == {"nodes": 6}
    graph = onnx.load(fused.folder / "model.onnx").graph
    assert ([i.name for i in graph.input], [o.name for o in graph.output]) == (["x"], ["audio"])
    x = np.random.default_rng(0).standard_normal((3, 8)).astype(np.float32)
    (between,) = run_onnx(bench.ran["encoder.export"].folder / "model.onnx", x=x)
    (expected,) = run_onnx(bench.ran["decoder.export"].folder / "model.onnx", x=between)
    np.testing.assert_allclose(run_onnx(fused.folder / "model.onnx", x=x)[0], expected, atol=1e-6)


def test_what_is_called_otherwise_is_told(fused: Ran) -> None:
    names = fused.json("names.json")
    assert names["encoder"]["tensors"]["y"] == names["decoder"]["tensors"]["x"] == "features"
    assert names["encoder"]["tensors"]["w1"] != names["decoder"]["tensors"]["w1"]


def test_ranges_of_members_under_the_names_of_the_merged_graph(bench: Bench, fused: Ran) -> None:
    needs = {"export": "fuse"} | {f"ranges:{m}": f"{m}.ranges" for m in ("encoder", "decoder")}
    ran = bench.run("ranges_fused", {}, needs)
    assert ran.result == {"tensors": 7, "samples": 6}
    found = ran.json("ranges.json")["ranges"]
    own = {m: bench.ran[f"{m}.ranges"].json("ranges.json")["ranges"] for m in ("encoder", "decoder")}
    assert found["audio"] == own["decoder"]["y"]
    seen = [own["encoder"]["y"], own["decoder"]["x"]]  # one wire, which both have seen
    assert found["features"] == [min(low for low, _ in seen), max(high for _, high in seen)]


def test_the_fewest_samples_of_any_member_count(bench: Bench, fused: Ran) -> None:
    record = bench.ran["decoder.ranges"].folder / "record.json"
    record.write_text(json.dumps({"result": {"samples": None}}))
    needs = {"export": "fuse"} | {f"ranges:{m}": f"{m}.ranges" for m in ("encoder", "decoder")}
    assert bench.run("ranges_fused", {}, needs).result["samples"] == 6
