from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from autovoice.graph.wiring import Graph
from autovoice.plan.planner import make_plan
from autovoice.plan.rules import Step, steps_of
from autovoice.spec import Calibration, Checkpoint, Component, Dim, Gate, Keep, OnnxFile, Quantize, Target
from autovoice.store.artefacts import Store
from autovoice.store.hashing import canonical_json
from tests.builders import FP16, FRAMES, GATE, INT8, NPZ, ORT, POLICY, component, graph_of, quantized, sent, wire

KINDS = ("export", "reference", "lower", "build", "verify")


def steps(graph: Graph) -> dict[str, Step]:
    return {s.id: s for s in steps_of(graph)}


def pair(**changes) -> Graph:
    """a reads x, b reads what a makes and y."""
    return graph_of(component("a", **changes), component("b", ["a_out", "y"]), inputs=["x", "y"])


def test_five_steps_a_component_between_the_inputs_and_the_end() -> None:
    ids = [s.id for s in steps_of(pair())]
    assert ids == ["inputs", *(f"{c}.{k}" for c in "ab" for k in KINDS), "end_to_end"]


def test_every_step_comes_after_what_it_needs() -> None:
    done: set[str] = set()
    for step in steps_of(pair()):
        assert set(step.needs.values()) <= done
        done.add(step.id)


def test_needs() -> None:
    found = steps(pair())
    assert {i: dict(s.needs) for i, s in found.items() if s.component != "a"} == {
        "inputs": {},
        "b.export": {},
        "b.reference": {"reference:a": "a.reference", "inputs": "inputs"},
        "b.lower": {"export": "b.export"},
        "b.build": {"lower": "b.lower"},
        "b.verify": {
            "build": "b.build",
            "reference:b": "b.reference",
            "reference:a": "a.reference",
            "inputs": "inputs",
        },
        "end_to_end": {"inputs": "inputs", "build:a": "a.build", "build:b": "b.build", "reference:b": "b.reference"},
    }


def test_what_a_component_reads_is_named_by_its_sender() -> None:
    assert steps(pair())["b.verify"].fields["reads"] == {
        "a_out": sent("reference:a", "a_out"),
        "y": sent("inputs", "y"),
    }


def test_fields_are_json() -> None:
    for step in steps_of(pair(keep=Keep(nodes=("n*",)), checkpoint=Checkpoint(Path("a.pth"), "model"))):
        assert canonical_json(step.fields)


@pytest.mark.parametrize("kind", ["export", "reference"])
def test_weights_are_an_input_by_content_and_not_by_path(kind: str) -> None:
    step = steps(pair(checkpoint=Checkpoint(Path("dir/a.pth"), "model", "flow.", False)))[f"a.{kind}"]
    assert step.files == {"checkpoint": Path("dir/a.pth")}
    assert step.fields["checkpoint"] == {"key": "model", "prefix": "flow.", "strict": False}


def test_an_onnx_file_is_imported_and_is_its_own_reference() -> None:
    onnx = OnnxFile(Path("m.onnx"), (Path("m.onnx.data"),))
    found = steps(pair(model=None, onnx=onnx))
    assert (found["a.export"].kind, found["a.reference"].kind) == ("import_onnx", "reference_onnx")
    assert found["a.export"].files == {"onnx": Path("m.onnx"), "onnx data m.onnx.data": Path("m.onnx.data")}
    assert found["a.reference"].needs == {"inputs": "inputs"}
    assert found["a.reference"].files == found["a.export"].files  # the user's file, not what was made of it
    assert (found["b.export"].kind, found["b.reference"].kind) == ("export", "reference")


def test_an_exports_sizes_are_the_traced_ones_of_the_dims_it_uses() -> None:
    dims = [
        Dim("frames", 2, 4, 8, trace=6),
        Dim("samples", 20, 40, 80, trace=60, multiple=10),
        Dim("half", 10, 20, 40, formula="samples//2", trace=30),
        Dim("other", 1, 2, 3, trace=2),
    ]
    parts = [component("a", makes=[wire("y", "half", "2*frames")])]
    fields = steps(graph_of(*parts, dims=dims))["a.export"].fields
    assert fields["trace"] == {"frames": 6, "half": 30, "samples": 60}
    assert fields["formulas"] == {"half": "samples//2"}
    assert "multiples" not in fields  # the runtime's to check: an export does not read them


def test_a_components_keep_is_added_to_its_precisions() -> None:
    precision = replace(FP16, keep=Keep(op_types=("Softmax", "Conv")))
    found = steps(pair(precision=precision, keep=Keep(op_types=("Conv",), nodes=("n*",), inputs=("x",))))
    expected = {"op_types": ["Conv", "Softmax"], "nodes": ["n*"], "inputs": ["x"]}
    assert found["a.lower"].fields["keep"] == found["a.build"].fields["keep"] == expected


def test_gates_of_a_component_are_those_of_its_precision() -> None:
    found = steps(pair(precision=FP16))
    assert found["a.verify"].fields["gates"] == {"snr_db": 30}
    assert found["b.verify"].fields["gates"] == {"snr_db": 60}


def test_the_whole_is_gated_by_its_loosest_component() -> None:
    gate = Gate({}, {"snr_db": {"fp32": 50, "fp16": 20}, "max_abs": {"fp32": 0.1, "fp16": 0.5}})
    parts = [component("a", gate=gate), component("b", ["a_out"], gate=gate, precision=FP16)]
    assert steps(graph_of(*parts))["end_to_end"].fields["gates"] == {"snr_db": 20, "max_abs": 0.5}


def test_the_whole_is_judged_by_the_outputs_wanted() -> None:
    graph = graph_of(component("a"), component("b", ["a_out"]), outputs=("a_out", "b_out"))
    step = steps(graph)["end_to_end"]
    assert step.fields["references"] == {n: sent(f"reference:{n[0]}", n) for n in ("a_out", "b_out")}
    assert {need for role, need in step.needs.items() if role.startswith("reference:")} == {
        "a.reference",
        "b.reference",
    }


def test_the_code_a_step_depends_on() -> None:
    model = Target("my.model.Net", {"size": 3, "layers": [{"_target_": "my.layers.Layer"}]})
    parts = [component("a", model=model, gate=GATE)]
    found = steps(graph_of(*parts))
    assert {i.removeprefix("a."): s.targets for i, s in found.items()} == {
        "inputs": ("autovoice.steps.inputs.run",),
        "export": ("autovoice.steps.export.run", "my.model.Net", "my.layers.Layer"),
        "reference": ("autovoice.steps.reference.run", "my.model.Net", "my.layers.Layer"),
        "lower": ("autovoice.steps.lower.run", "autovoice.onnx_tools.lowering.floating.keep_float32"),
        "build": ("autovoice.steps.build.run", ORT.target),
        "verify": ("autovoice.steps.verify.run", ORT.target),
        "end_to_end": ("autovoice.steps.end_to_end.run", ORT.target),
    }


def test_the_inputs_cover_all_that_is_declared_whatever_is_built() -> None:
    inputs = ["x", wire("unread", "other"), wire("n", "frames", dtype="int32", default=3)]
    graph = graph_of(
        component("a", ["x", "n"]), inputs=inputs, dims=[Dim("frames", 2, 4, 8, multiple=2), Dim("other", 1, 2, 3)]
    )
    fields = steps(graph)["inputs"].fields
    assert fields["tensors"] == {
        "x": {"dtype": "float32", "shape": [1, "frames"], "default": None, "example": None},
        "unread": {"dtype": "float32", "shape": ["other"], "default": None, "example": None},
        "n": {"dtype": "int32", "shape": ["frames"], "default": 3, "example": None},
    }
    assert fields["dims"] == {
        "frames": {"min": 2, "opt": 4, "max": 8, "formula": None, "multiple": 2},
        "other": {"min": 1, "opt": 2, "max": 3, "formula": None, "multiple": 1},
    }
    assert (
        steps(graph)["inputs"].fields
        == steps(graph_of(component("b"), inputs=inputs, dims=graph.dims.values()))["inputs"].fields
    )


# -- calibration -------------------------------------------------------------------------------------

#: an int8 build without anything to be compared with
ALONE = replace(INT8, highers={})
SPEECH = Calibration("speech", "pipeline", Target("autovoice.calibration.sources.synthetic", {"dims": {}}))
NOTHING = Quantize()


def ids(graph: Graph, component: str) -> list[str]:
    """A component's steps in order, by the user's word for them."""
    return [s.id.partition(".")[2] for s in steps_of(graph) if s.component == component]


def one(calibration: Calibration = NPZ, **changes: Any) -> Graph:
    return graph_of(quantized("a", **{"precision": ALONE, "calibration": calibration} | changes))


def chain(calibration: Calibration = SPEECH) -> Graph:
    """a → b → c, of which b is quantized; d stands beside them."""
    b = quantized("b", ["a_out", "y"], precision=ALONE, calibration=calibration)
    parts = [component("a"), b, component("c", ["b_out"]), component("d", ["y"])]
    return graph_of(*parts, inputs=["x", "y"])


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


# -- what a change reaches ---------------------------------------------------------------------------


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


def pair_of(**changes: Any) -> Graph:
    """b, quantized, after a; `dims` apart, the changes are b's."""
    dims = changes.pop("dims", [FRAMES])
    b = quantized("b", ["a_out"], **{"precision": ALONE} | changes)
    return graph_of(component("a"), b, dims=dims)


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
