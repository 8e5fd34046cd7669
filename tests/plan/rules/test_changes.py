"""What a change of a calibration or of a policy reaches, and what it leaves alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from autovoice.graph.wiring import Graph
from autovoice.plan.planner import make_plan
from autovoice.spec import Keep, Target
from autovoice.store.artefacts import Store
from tests.builders import FRAMES, NPZ, POLICY, component, graph_of, quantized
from tests.plan.rules.graphs import ALONE, SPEECH, pair_of


@pytest.fixture
def altered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Graph, Graph], set[str]]:
    """altered(before, after): steps whose key is another, or that are there once only."""
    monkeypatch.chdir(tmp_path)
    Path("data.npz").write_bytes(b"samples")
    store = Store(tmp_path / "store")

    def compare(before: Graph, after: Graph) -> set[str]:
        old, new = ({p.step.id: p.key for p in make_plan(g, store).steps} for g in (before, after))
        return {i for i in old.keys() | new.keys() if old.get(i) != new.get(i)}

    return compare


AFTER_RANGES = {"b.lower", "b.build", "b.verify", "swaps", "end_to_end"}
PERCENTILE = replace(NPZ, method={"default": "percentile"})


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        pytest.param(
            {},
            {"quantize": replace(POLICY, first=False)},
            AFTER_RANGES,
            id="policy",
        ),
        pytest.param({}, {"keep": Keep(nodes=("n*",))}, AFTER_RANGES, id="keep"),
        pytest.param(
            {"calibration": PERCENTILE},
            {"calibration": replace(PERCENTILE, percentile=99.0)},
            {"b.ranges", *AFTER_RANGES},
            id="percentile",
        ),
        pytest.param(
            {"calibration": PERCENTILE},
            {"calibration": replace(NPZ, method={"default": "mse"})},
            {"b.ranges", *AFTER_RANGES},
            id="method_that_reads_the_same",
        ),
        pytest.param(
            {},
            {"calibration": PERCENTILE},
            {"b.observe", "b.ranges", *AFTER_RANGES},
            id="method_that_needs_histograms",
        ),
        pytest.param(
            {},
            {"calibration": replace(NPZ, source=Target("autovoice.calibration.sources.npy_folder"))},
            {"b.samples", "b.coverage", "b.observe", "b.ranges", *AFTER_RANGES},
            id="source",
        ),
        pytest.param({}, {"calibration": replace(NPZ, name="other")}, set(), id="name_alone"),
        pytest.param(
            {}, {"gate": replace(quantized("b").gate, component={"snr_db": {"int8": 1}})}, {"b.verify"}, id="gate"
        ),
    ],
)
def test_a_change_reaches_no_further_than_it_must(
    before: dict[str, Any], after: dict[str, Any], expected: set[str], altered: Callable[[Graph, Graph], set[str]]
) -> None:
    assert altered(pair_of(**before), pair_of(**after)) == expected


def test_another_profile_is_checked_again_with_the_samples_and_ranges_that_are_there(
    altered: Callable[[Graph, Graph], set[str]],
) -> None:
    found = altered(pair_of(), pair_of(dims=[replace(FRAMES, max=16)]))
    assert "b.coverage" in found
    assert not found & {"b.samples", "b.observe", "b.ranges", "b.lower", "b.export"}


def test_other_content_of_a_file_is_other_samples(altered: Callable[[Graph, Graph], set[str]], tmp_path: Path) -> None:
    (tmp_path / "other.npz").write_bytes(b"other samples")
    (tmp_path / "copy.npz").write_bytes(b"samples")

    def given(name: str) -> Graph:
        return pair_of(calibration=replace(NPZ, files=(("data.npz", Path(name)),)))

    assert altered(pair_of(), given("copy.npz")) == set()
    assert "b.samples" in altered(pair_of(), given("other.npz"))


def test_another_upstream_component_is_other_activations(altered: Callable[[Graph, Graph], set[str]]) -> None:
    def graph(seed: int) -> Graph:
        b = quantized("b", ["a_out"], precision=ALONE, calibration=SPEECH)
        return graph_of(component("a", seed=seed), b)

    found = altered(graph(0), graph(1))
    assert {"a.activations_speech", "b.observe", "b.ranges", *AFTER_RANGES} <= found
    assert not found & {"samples_speech", "coverage_speech", "b.export"}
