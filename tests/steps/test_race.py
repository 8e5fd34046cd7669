from __future__ import annotations

from typing import Any

import pytest

from tests.steps.bench import FLOAT, ORT, Bench, Ran

FIELDS: dict[str, Any] = {
    "backend": ORT,
    "precisions": ["int8", "fp32"],
    "type": "int8",
    "reads": {"x": {"role": "inputs", "wire": "x"}},
    "outputs": {"y": FLOAT | {"wire": "a"}},
}


def raced(bench: Bench, choose: bool, lowered: str = "encoder.build") -> Ran:
    for name in ("encoder", "decoder"):
        bench.ranged(name)
    bench.referenced()
    bench.built("encoder", "int8")
    bench.built("encoder")
    needs = {"build": lowered, "higher": "encoder.build_fp32", "inputs": "inputs"}
    return bench.run("race", FIELDS | {"choose": choose}, needs)


def test_both_are_timed_side_by_side(bench: Bench) -> None:
    found = raced(bench, choose=False).result
    assert found.keys() == {"point", "rounds", "ms", "ratio"}
    assert found["ms"].keys() == {"int8", "fp32"}
    assert found["ratio"] == pytest.approx(found["ms"]["int8"] / found["ms"]["fp32"], abs=1e-3)
    assert found["rounds"] >= 5


def test_the_faster_ones_engine_and_its_record(bench: Bench) -> None:
    ran = raced(bench, choose=True)
    chosen = ran.result["chosen"]
    assert ran.result["ms"][chosen] == min(ran.result["ms"].values())
    build = bench.ran["encoder.build" if chosen == "int8" else "encoder.build_fp32"]
    assert (ran.folder / "engine.onnx").read_bytes() == (build.folder / "engine.onnx").read_bytes()
    assert ran.result["delivered"] == build.result["delivered"]


@pytest.mark.parametrize("choose", [False, True])
def test_where_nothing_was_quantized_there_is_nothing_to_time(bench: Bench, choose: bool) -> None:
    found = raced(bench, choose, lowered="encoder.build_fp32").result
    assert (found["rounds"], found["ms"], found["ratio"]) == (0, {}, None)
    assert found.get("chosen") == ("int8" if choose else None)
