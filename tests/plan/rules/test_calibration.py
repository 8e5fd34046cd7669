"""Steps that calibrate: whose samples, whose ranges, how often."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from autovoice.graph.wiring import Graph
from autovoice.plan.rules import steps_of
from autovoice.spec import Calibration, Component, Target
from autovoice.store.hashing import canonical_json
from tests.builders import FP16, INT8, NPZ, component, graph_of, quantized, sent
from tests.plan.rules.graphs import NOTHING, SPEECH, chain, ids, one, steps

LOWERED = ["reference", "lower", "build", "verify"]


@pytest.mark.parametrize(
    ("graph", "expected"),
    [
        pytest.param(one, ["export", "samples", "coverage", "observe", "ranges", *LOWERED], id="level_component"),
        pytest.param(lambda: one(SPEECH), ["export", "observe", "ranges", *LOWERED], id="level_pipeline"),
        pytest.param(
            lambda: one(Calibration("given", ranges=Path("r.json"))), ["export", "ranges", *LOWERED], id="ranges_given"
        ),
        pytest.param(
            lambda: one(Calibration("own", calibrator=Target("my.ranges"))),
            ["export", "ranges", *LOWERED],
            id="calibrator",
        ),
        pytest.param(
            lambda: one(replace(NPZ, shards=3)),
            ["export", "samples", "coverage", "observe_1of3", "observe_2of3", "observe_3of3", "ranges", *LOWERED],
            id="shards",
        ),
        pytest.param(lambda: one(quantize=NOTHING), ["export", *LOWERED], id="nothing_to_quantize"),
        pytest.param(
            lambda: one(quantize=NOTHING, precision=INT8), ["export", *LOWERED], id="nothing_to_quantize_nor_to_race"
        ),
        pytest.param(
            lambda: one(precision=INT8),
            [
                *("export", "samples", "coverage", "observe", "ranges", "reference", "lower", "build"),
                *("lower_fp32", "build_fp32", "race", "verify"),
            ],
            id="raced",
        ),
    ],
)
def test_steps_of_a_quantized_component(graph: Callable[[], Graph], expected: list[str]) -> None:
    assert ids(graph(), "a") == expected


GRAPHS: dict[str, Callable[[], Graph]] = {
    "component": one,
    "pipeline": chain,
    "pipeline_of_all": lambda: graph_of(
        quantized("a", calibration=SPEECH), quantized("b", ["a_out"], calibration=SPEECH)
    ),
    "shards": lambda: chain(replace(SPEECH, shards=4)),
    "two_calibrations": lambda: graph_of(
        quantized("a", calibration=SPEECH),
        quantized("b", ["a_out"], calibration=replace(SPEECH, name="other")),
        quantized("c", ["b_out"], calibration=NPZ),
    ),
    "given": lambda: one(Calibration("given", ranges=Path("r.json"))),
    "calibrator": lambda: one(Calibration("own", calibrator=Target("my.ranges"))),
    "only_if_faster": lambda: graph_of(quantized("a", only_if_faster=True), component("b", ["a_out"])),
    "nothing": lambda: one(quantize=NOTHING),
}


@pytest.mark.parametrize("name", GRAPHS)
def test_each_step_once_after_what_it_needs_and_in_plain_data(name: str) -> None:
    done: set[str] = set()
    for step in steps_of(GRAPHS[name]()):
        assert step.id not in done
        assert set(step.needs.values()) <= done
        assert canonical_json(step.fields)
        done.add(step.id)


def test_samples_of_the_pipeline_are_made_once_and_travel_through_what_stands_upstream() -> None:
    found = steps(chain())
    assert [s.id for s in steps_of(chain())][:3] == ["inputs", "samples_speech", "coverage_speech"]
    assert found["samples_speech"].component == ""
    assert set(found["samples_speech"].fields["inputs"]) == {"x", "y"}
    assert {i for i in found if "activations" in i} == {"a.activations_speech"}
    assert found["a.activations_speech"].needs == {"export": "a.export", "samples": "samples_speech"}
    assert found["b.observe"].needs == {
        "export": "b.export",
        "activations:a": "a.activations_speech",
        "samples": "samples_speech",
    }
    assert found["b.observe"].fields["reads"] == {
        "a_out": sent("activations:a", "a_out"),
        "y": sent("samples", "y"),
    }


def test_samples_of_a_component_are_its_own_inputs() -> None:
    found = steps(chain(NPZ))
    assert not [i for i in found if "activations" in i]
    assert set(found["b.samples"].fields["inputs"]) == {"a_out", "y"}
    assert found["b.samples"].files == {"data data.npz": Path("data.npz")}
    assert found["b.coverage"].needs == {"samples": "b.samples"}
    assert found["b.observe"].needs == {"export": "b.export", "samples": "b.samples"}
    assert found["b.observe"].fields["reads"] == {
        "a_out": sent("samples", "a_out"),
        "y": sent("samples", "y"),
    }


def test_only_what_is_quantized_is_calibrated() -> None:
    by_component = {s.component for s in steps_of(chain()) if s.kind in ("observe", "ranges")}
    assert by_component == {"b"}
    found = steps(chain())
    assert "ranges" in found["b.lower"].needs
    assert "quantize" in found["b.build"].fields
    assert found["b.build"].needs == {"lower": "b.lower", "export": "b.export"}
    assert found["c.lower"].needs == {"export": "c.export"}
    assert "quantize" not in found["c.lower"].fields


def test_shards_share_the_samples_between_them() -> None:
    found = steps(one(replace(NPZ, shards=3)))
    assert [found[f"a.observe_{i}of3"].fields["shard"] for i in (1, 2, 3)] == [[0, 3], [1, 3], [2, 3]]
    assert set(found["a.ranges"].needs.values()) == {
        "a.export",
        "a.observe_1of3",
        "a.observe_2of3",
        "a.observe_3of3",
    }


@pytest.mark.parametrize("folder", [True, False], ids=["folder", "file"])
def test_ranges_given_are_a_file_or_one_of_a_folder(folder: bool, tmp_path: Path) -> None:
    given = tmp_path if folder else tmp_path / "mine.json"
    step = steps(one(Calibration("given", ranges=given)))["a.ranges"]
    assert (step.kind, step.files) == (
        "ranges_given",
        {"calibration.ranges": tmp_path / ("a.json" if folder else "mine.json")},
    )


def test_a_calibrator_is_code_of_its_step() -> None:
    calibrator = Target("my.code.ranges", {"inner": {"_target_": "my.inner.Thing"}})
    step = steps(one(Calibration("own", calibrator=calibrator, files=NPZ.files)))["a.ranges"]
    assert step.kind == "ranges_calibrator"
    assert step.targets == ("autovoice.steps.ranges_calibrator.run", "my.code.ranges", "my.inner.Thing")
    assert step.needs == {"export": "a.export"}
    assert step.files == {"data data.npz": Path("data.npz")}


def test_a_source_is_code_of_the_samples_and_of_nothing_else() -> None:
    source = Target("my.code.samples", {"inner": {"_target_": "my.inner.Thing"}})
    for name, graph in {
        "a.samples": one(replace(NPZ, source=source)),
        "samples_s": one(replace(SPEECH, source=source, name="s")),
    }.items():
        with_it = {i for i, s in steps(graph).items() if "my.code.samples" in s.targets}
        assert with_it == {name}
        assert steps(graph)[name].targets == ("autovoice.steps.samples.run", "my.code.samples", "my.inner.Thing")


def test_the_lowering_is_the_one_of_the_backend() -> None:
    found = steps(one(precision=INT8))
    assert found["a.lower"].fields["lowering"]["target"] == "autovoice.onnx_tools.lowering.integer.to_u8s8"
    assert found["a.lower_fp32"].fields["lowering"]["target"] == "autovoice.onnx_tools.lowering.floating.keep_float32"
    assert "quantize" not in found["a.lower_fp32"].fields
    other = replace(quantized("a").backend, name="onnxruntime2")
    lower = steps(one(backend=other))["a.lower"]
    assert lower.fields["lowering"]["target"] == "autovoice.onnx_tools.lowering.explicit.to_qdq"


@pytest.mark.parametrize(("only_if_faster", "engine"), [(False, "a.build"), (True, "a.race")])
def test_what_stands_after_a_race_is_the_engine_to_use(only_if_faster: bool, engine: str) -> None:
    parts = [quantized("a", only_if_faster=only_if_faster), component("b", ["a_out"])]
    found = steps(graph_of(*parts))
    assert found["a.race"].needs == {"build": "a.build", "higher": "a.build_fp32", "inputs": "inputs"}
    assert (found["a.race"].alone, found["a.build"].alone) == (True, False)
    assert found["a.race"].fields["choose"] == only_if_faster
    assert found["a.verify"].needs["build"] == engine
    assert found["end_to_end"].needs["build:a"] == found["swaps"].needs["build:a"] == engine


def test_only_if_faster_without_anything_to_race_against() -> None:
    found = steps(one(only_if_faster=True))
    assert "a.race" not in found
    assert found["a.verify"].needs["build"] == "a.build"


@pytest.mark.parametrize(
    ("parts", "swapped"),
    [
        ([quantized("a"), component("b", ["a_out"])], ["a"]),
        ([quantized("a"), component("b", ["a_out"], precision=FP16)], ["a", "b"]),
        ([quantized("a"), quantized("b", ["a_out"], quantize=NOTHING)], ["a"]),
        ([quantized("a")], None),
        ([component("a", precision=FP16), component("b", ["a_out"])], None),
    ],
    ids=["quantized", "float16_beside", "policy_that_names_nothing", "alone", "nothing_quantized"],
)
def test_components_are_swapped_one_by_one_where_something_is_quantized(
    parts: list[Component], swapped: list[str] | None
) -> None:
    found = steps(graph_of(*parts))
    assert (found["swaps"].fields["lowered"] if "swaps" in found else None) == swapped


def test_two_calibrations_at_once() -> None:
    found = steps(GRAPHS["two_calibrations"]())
    assert {i for i in found if i.startswith("samples_")} == {"samples_speech", "samples_other"}
    assert {i for i in found if "activations" in i} == {"a.activations_other"}
    assert found["a.observe"].needs["samples"] == "samples_speech"
    assert found["b.observe"].needs["activations:a"] == "a.activations_other"
    assert found["c.observe"].needs["samples"] == "c.samples"


def test_two_calibrations_of_one_name_that_differ() -> None:
    """As `component.b.calibration` overridden in place gives them: each must have its own data."""
    other = replace(SPEECH, source=Target("my.other.source"))
    parts = [quantized("a", calibration=SPEECH), quantized("b", ["x"], calibration=other)]
    found = steps(graph_of(*parts))
    for name, source in (("a", SPEECH.source), ("b", other.source)):
        assert source is not None
        assert found[found[f"{name}.observe"].needs["samples"]].fields["source"]["target"] == source.path


@pytest.mark.parametrize("change", [{"method": {"default": "mse"}}, {"shards": 2}], ids=["method", "shards"])
def test_one_calibration_in_two_ways_shares_its_samples(change: dict[str, Any]) -> None:
    parts = [quantized("a", calibration=SPEECH), quantized("b", ["a_out"], calibration=replace(SPEECH, **change))]
    assert [i for i in steps(graph_of(*parts)) if i.startswith("samples_")] == ["samples_speech"]
