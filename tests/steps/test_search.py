"""What quantizing each node costs, and what must be left out for the gate to be met."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.onnx_models import keep, model, node, value
from tests.steps.bench import COMPONENTS, FLOAT, INT8, POLICY, Bench, Ran

OUTPUTS = {"y": FLOAT | {"wire": "a"}}
TRIAL = INT8 | {"outputs": OUTPUTS}
SENSITIVITY: dict[str, Any] = TRIAL | {
    "reads": {"x": {"role": "samples", "wire": "x"}},
    "op_types": ["MatMul"],
    "limit": 4,
    "downstream": {},
    "pipeline_outputs": [],
}
READS = {"x": {"role": "activations:encoder", "wire": "a"}}
DOWNSTREAM = {"decoder": {"reads": READS, "outputs": COMPONENTS["decoder"]["outputs"]}}
NEEDS = {"export": "encoder.export", "ranges": "encoder.ranges", "samples": "samples"}


@pytest.fixture
def ranged(bench: Bench) -> Bench:
    """`bad` reads values a thousand times as large in one column as in the others, which hold as much of the sum."""
    rng = np.random.default_rng(0)
    weights = {w: rng.normal(size=(8, 8)).astype(np.float32) / 3 for w in ("bad", "good")}
    weights |= {"spread": np.array([1, 1000, 1, 1, 1, 1, 1, 1], np.float32)}
    nodes = [node("Mul", "x spread", "s"), node("MatMul", "s bad", "p"), node("Tanh", "p", "t")]
    nodes += [node("MatMul", "t good", "y")]
    weights["bad"][1] /= 1000
    made = model(nodes, [value("x", "n", 8)], [value("y", "n", 8)], weights)
    bench.exported("encoder", made)
    bench.exported("decoder")
    bench.sampled(8)
    observe = {"reads": {"x": {"role": "samples", "wire": "x"}}, "histograms": {"default": False}, "shard": [0, 1]}
    bench.run("encoder.observe", observe, {"export": "encoder.export", "samples": "samples"})
    fields = {"method": {"default": "minmax"}, "percentile": 99.99}
    bench.run("encoder.ranges", fields, {"export": "encoder.export", "observe": "encoder.observe"})
    return bench


def ranked(bench: Bench, **fields: Any) -> Ran:
    return bench.run("sensitivity", SENSITIVITY | fields, NEEDS | {"export:decoder": "decoder.export"})


def test_nodes_are_ranked_worst_first(ranged: Bench) -> None:
    ran = ranked(ranged)
    assert ran.result == {"nodes": 2, "samples": 4, "worst": "n_p"}
    worst, best = ran.json("sensitivity.json")
    assert (worst["node"], best["node"]) == ("n_p", "n_y")
    assert worst["snr_db"] < best["snr_db"] - 10
    assert (worst["weights"], worst["chosen"], worst["pipeline_snr_db"]) == (["bad"], True, None)
    assert worst["macs"] == 3 * 8 * 8


def test_damage_is_measured_at_the_pipelines_end_too(ranged: Bench) -> None:
    ran = ranked(ranged, downstream=DOWNSTREAM, pipeline_outputs=["y"])
    assert all(isinstance(r["pipeline_snr_db"], float) for r in ran.json("sensitivity.json"))


def test_what_the_policy_leaves_out_is_ranked_and_said_so(ranged: Bench) -> None:
    found = ranked(ranged, quantize=POLICY | {"exclude": ["good"]}).json("sensitivity.json")
    assert {r["node"]: r["chosen"] for r in found} == {"n_p": True, "n_y": False}


def test_nodes_that_are_kept_are_not_tried(ranged: Bench) -> None:
    assert ranked(ranged, keep=keep(nodes=["n_p"])).result["nodes"] == 1
    ranged.root = ranged.root / "again"
    ran = ranked(ranged, keep=keep(op_types=["MatMul"]))
    assert ran.result == {"nodes": 0, "samples": 0, "worst": None}
    assert ran.json("sensitivity.json") == []


def searched(bench: Bench, gate: float, evaluations: int = 20) -> Ran:
    if "sensitivity" not in bench.ran:
        ranked(bench)
        bench.referenced()
    fields = TRIAL | {"reads": {"x": {"role": "inputs", "wire": "x"}}, "gates": {"snr_db": gate}, "audio": {}}
    fields |= {"references": {"y": {"role": "reference:encoder", "wire": "a"}}}
    needs = NEEDS | {"sensitivity": "sensitivity", "reference:encoder": "encoder.reference", "inputs": "inputs"}
    name = f"search_{gate}"
    return bench.run(name, fields | {"evaluations": evaluations}, needs, kind="search")


def test_only_what_must_be_is_left_out(ranged: Bench) -> None:
    ran = searched(ranged, 25)
    assert ran.result["excluded"] == ["n_p"]
    assert ran.result["met"]
    assert ran.result["macs_share"] == 0.5
    assert ran.result["before"]["snr_db"] < 25 <= ran.result["worst"]["snr_db"]
    found = ran.json("search.json")
    assert (found["patterns"], found["quantized"]) == (["bad"], ["n_y"])
    assert len(found["tried"]) == ran.result["tried"]


def test_a_gate_that_all_meet_leaves_nothing_out(ranged: Bench) -> None:
    ran = searched(ranged, -10)
    assert (ran.result["excluded"], ran.result["met"], ran.result["macs_share"]) == ([], True, 1)


def test_a_gate_that_float32_alone_meets_leaves_all_out(ranged: Bench) -> None:
    ran = searched(ranged, 90)
    assert (ran.result["excluded"], ran.result["met"], ran.result["macs_share"]) == (["n_p", "n_y"], True, 0)


def test_a_gate_that_nothing_meets_says_so(ranged: Bench) -> None:
    ran = searched(ranged, 500)
    assert (ran.result["excluded"], ran.result["met"]) == (["n_p", "n_y"], False)
