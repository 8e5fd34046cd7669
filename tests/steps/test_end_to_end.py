"""The steps that run all engines in a row: parity at the end, what each costs there, how long it takes."""

from __future__ import annotations

from typing import Any

import pytest

from autovoice.errors import GateError
from autovoice.measure.points import POINTS
from tests.steps.bench import ABOUT, COMPONENTS, Bench

BUILDS = {f"build:{n}": f"{n}.build" for n in COMPONENTS}
FIELDS: dict[str, Any] = {
    "components": COMPONENTS,
    "references": {"y": {"role": "reference:decoder", "wire": "y"}},
    "gates": {"snr_db": 10},
    "about": {n: ABOUT for n in COMPONENTS},
    "audio": {},
}
NEEDS = {"inputs": "inputs", "reference:decoder": "decoder.reference", **BUILDS}


@pytest.fixture
def built(bench: Bench) -> Bench:
    """Both components in int8."""
    for name in COMPONENTS:
        bench.ranged(name)
        bench.built(name, "int8")
    bench.referenced()
    return bench


def test_parity_of_the_pipelines_outputs_at_every_point(built: Bench) -> None:
    found = built.run("end_to_end", FIELDS, NEEDS).result
    assert tuple(found["parity"]) == POINTS
    assert [p.keys() for p in found["parity"].values()] == [{"y"}] * 4
    assert all(10 < p["y"]["snr_db"] < 80 for p in found["parity"].values())
    assert found["gates"] == {"snr_db": 10}
    assert (found["untrained"], found["notes"]) == ([], [])


def test_a_gate_that_is_missed(built: Bench) -> None:
    with pytest.raises(GateError) as raised:
        built.run("end_to_end", FIELDS | {"gates": {"snr_db": 150}}, NEEDS)
    assert raised.value.fact.startswith("snr_db ")
    assert " of 'y' at " in raised.value.fact
    assert raised.value.fact.endswith(", the gate asks ≥ 150")
    assert "encoder, decoder" in raised.value.fix


def test_what_each_component_costs_at_the_end(built: Bench) -> None:
    fields = {k: FIELDS[k] for k in ("components", "references")} | {"lowered": list(COMPONENTS)}
    needs = NEEDS | {f"export:{n}": f"{n}.export" for n in COMPONENTS}
    found = built.run("swaps", fields, needs).result
    assert found["point"] == "opt"
    assert list(found["swaps"]) == ["encoder", "decoder"]
    whole = built.run("end_to_end", FIELDS, NEEDS).result["parity"]["opt"]["y"]["snr_db"]
    assert found["swaps"]["decoder"]["y"]["snr_db"] == pytest.approx(whole)
    assert found["swaps"]["encoder"]["y"]["snr_db"] != pytest.approx(whole)


def test_a_component_in_float32_is_not_asked_about(built: Bench) -> None:
    fields = {k: FIELDS[k] for k in ("components", "references")} | {"lowered": ["decoder"]}
    needs = NEEDS | {f"export:{n}": f"{n}.export" for n in COMPONENTS}
    assert list(built.run("swaps", fields, needs).result["swaps"]) == ["decoder"]


def test_the_pipeline_timed_component_by_component(built: Bench) -> None:
    found = built.run("latency", {"components": COMPONENTS}, {"inputs": "inputs", **BUILDS}).result
    assert found.keys() == {"point", "rounds", "ms", "component_ms", "notes"}
    assert found["component_ms"].keys() == COMPONENTS.keys()
    assert found["rounds"] >= 5
    assert found["ms"] >= max(found["component_ms"].values()) > 0
