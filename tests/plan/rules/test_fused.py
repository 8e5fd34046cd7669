"""Steps of a fused component: what it shares with a build that fuses nothing, and what is its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from autovoice.errors import ConfigError, Fault
from autovoice.graph.fuse import fused
from autovoice.graph.wiring import Graph, build_graph
from autovoice.plan.planner import make_plan
from autovoice.plan.rules import Step, steps_of
from autovoice.plan.rules.baseline import Baseline, baseline_steps
from autovoice.spec import Backend, Calibration, Component, Group, Implicit, Keep, OnnxFile, Quantize
from autovoice.store.artefacts import Store
from autovoice.store.hashing import canonical_json
from tests.builders import FP16, FP32, NPZ, ORT, build_spec, component, quantized, sent, wire

SHARED = replace(NPZ, name="shared", level="pipeline")


def graph(*parts: Component, outputs: tuple[str, ...] = (), **groups: tuple[str, ...]) -> Graph:
    faults: list[Fault] = []
    components = fused(parts, [Group(n, m) for n, m in groups.items()], outputs, faults)
    assert faults == []
    return build_graph(build_spec(*components, inputs=["x", "y"], outputs=outputs))


def four(make: Callable[..., Component] = component, **changes: object) -> list[Component]:
    """a and b in a row, c after b, late after a and c."""
    reads = {
        "a": ["x"],
        "b": ["a_out", "y"],
        "c": ["b_out"],
        "late": ["a_out", "c_out"],
    }
    return [make(name, r, **changes) for name, r in reads.items()]


def steps(g: Graph) -> dict[str, Step]:
    return {s.id: s for s in steps_of(g)}


def test_members_are_exported_and_referenced_the_merged_one_is_built() -> None:
    ids = [s.id for s in steps_of(graph(*four(), bc=("b", "c")))]
    assert ids == [
        "inputs",
        *(f"a.{k}" for k in ("export", "reference", "lower", "build", "verify")),
        *("b.export", "b.reference", "c.export", "c.reference"),
        *(f"bc.{k}" for k in ("fuse", "lower", "build", "verify")),
        *(f"late.{k}" for k in ("export", "reference", "lower", "build", "verify")),
        "end_to_end",
    ]


@pytest.mark.parametrize("make", [component, quantized], ids=["fp32", "int8"])
def test_every_step_comes_after_what_it_needs(make: Callable[..., Component]) -> None:
    changes = {"calibration": SHARED} if make is quantized else {}
    done: set[str] = set()
    for step in steps_of(graph(*four(make, **changes), bc=("b", "c"))):
        assert set(step.needs.values()) <= done, step.id
        assert canonical_json(step.fields)
        done.add(step.id)


@pytest.mark.parametrize("group", [("b", "c"), ("a", "b"), ("a", "b", "c")])
def test_exports_references_and_what_is_not_fused_have_the_keys_of_an_unfused_build(
    group: tuple[str, ...], tmp_path: Path
) -> None:
    def keys(g: Graph) -> dict[str, str]:
        return {p.step.id: p.key for p in make_plan(g, Store(tmp_path)).steps}

    plain, merged = keys(graph(*four())), keys(graph(*four(), one=group))
    assert {
        s: k for s, k in merged.items() if s.partition(".")[0] not in ("one", "end_to_end")
    }.items() <= plain.items()
    assert {s for s in plain if s not in merged} == {f"{m}.{k}" for m in group for k in ("lower", "build", "verify")}


def test_the_merge_is_of_exports_and_wires_alone() -> None:
    found = steps(graph(*four(), bc=("b", "c")))
    fuse = found["bc.fuse"]
    assert dict(fuse.needs) == {"export:b": "b.export", "export:c": "c.export"}
    assert fuse.fields["members"] == [
        {"name": "b", "inputs": {n: {"wire": n} for n in ("a_out", "y")}, "outputs": {"b_out": {"wire": "b_out"}}},
        {"name": "c", "inputs": {"b_out": {"wire": "b_out"}}, "outputs": {"c_out": {"wire": "c_out"}}},
    ]
    assert (list(fuse.fields["inputs"]), list(fuse.fields["outputs"])) == (["a_out", "y"], ["c_out"])
    assert found["bc.lower"].needs == {"export": "bc.fuse"}
    half = [replace(p, precision=FP16) for p in four()]
    assert steps(graph(*half, bc=("b", "c")))["bc.fuse"] == fuse  # whatever the precision


def test_it_is_held_against_the_references_of_whoever_makes_its_outputs() -> None:
    found = steps(graph(*four(), ab=("a", "b")))
    verify = found["ab.verify"]
    assert verify.fields["references"] == {
        "a_out": sent("reference:a", "a_out"),
        "b_out": sent("reference:b", "b_out"),
    }
    assert verify.needs == {
        "build": "ab.build",
        "inputs": "inputs",
        "reference:a": "a.reference",
        "reference:b": "b.reference",
    }
    assert found["c.verify"].needs["reference:b"] == "b.reference"


def test_the_end_is_held_against_the_reference_of_the_member_that_makes_it() -> None:
    step = steps(graph(*four()[:3], bc=("b", "c")))["end_to_end"]
    assert step.fields["references"] == {"c_out": sent("reference:c", "c_out")}
    assert set(step.needs) == {"inputs", "build:a", "build:bc", "reference:c"}


def test_an_onnx_file_may_be_a_member() -> None:
    parts = [component("a"), component("b", ["a_out"], model=None, onnx=OnnxFile(Path("b.onnx")))]
    found = steps(graph(*parts, ab=("a", "b")))
    assert [found[s].kind for s in ("a.export", "b.export", "ab.fuse")] == ["export", "import_onnx", "fuse"]


# -- what stays float32, what is quantized -----------------------------------------------------------


def test_without_anything_kept_no_policy_of_members_is_needed() -> None:
    half = [replace(p, precision=replace(FP16, keep=Keep(op_types=("Softmax",)))) for p in four()]
    lower = steps(graph(*half, bc=("b", "c")))["bc.lower"]
    assert "members" not in lower.fields
    assert lower.fields["keep"]["op_types"] == ["Softmax"]


def test_what_members_keep_is_resolved_in_their_own_graphs() -> None:
    half = [replace(p, precision=FP16) for p in four()]
    half[1] = replace(half[1], keep=Keep(nodes=("pool*",)))
    found = steps(graph(*half, bc=("b", "c")))
    for step in (found["bc.lower"], found["bc.build"]):
        assert step.fields["members"]["b"]["keep"]["nodes"] == ["pool*"]
        assert step.fields["members"]["c"]["keep"]["nodes"] == []
        assert {"export", "export:b", "export:c"} <= step.needs.keys()


def test_ranges_are_those_of_the_members_that_are_quantized() -> None:
    parts = four(quantized, calibration=SHARED)
    parts[2] = replace(parts[2], quantize=Quantize(()))
    found = steps(graph(*parts, bc=("b", "c")))
    assert found["bc.ranges"].kind == "ranges_fused"
    assert found["bc.ranges"].needs == {"export": "bc.fuse", "ranges:b": "b.ranges"}
    assert "c.observe" not in found
    assert found["bc.lower"].fields["members"]["c"]["quantize"]["op_types"] == []
    assert found["bc.race"].needs["higher"] == "bc.build_fp32"
    assert "quantize" not in found["bc.lower_fp32"].fields


def test_what_is_observed_has_the_keys_of_an_unfused_build(tmp_path: Path) -> None:
    (tmp_path / "data.npz").touch()
    files = (("data.npz", tmp_path / "data.npz"),)
    parts = four(quantized, calibration=replace(SHARED, files=files))

    def keys(g: Graph) -> dict[str, str]:
        return {p.step.id: p.key for p in make_plan(g, Store(tmp_path / "store")).steps}

    plain, merged = keys(graph(*parts)), keys(graph(*parts, bc=("b", "c")))
    shared = {s for s in merged if s.rpartition(".")[2] in ("observe", "activations_shared", "samples_shared")}
    assert {"b.observe", "c.observe", "late.observe", "a.activations_shared", "c.activations_shared"} < shared
    assert {plain[s] for s in shared} == {merged[s] for s in shared}
    assert all(plain[f"{c}.ranges"] == merged[f"{c}.ranges"] for c in "abc")


def test_what_costs_accuracy_is_told_by_engine() -> None:
    parts = four(quantized, calibration=SHARED)
    swaps = steps(graph(*parts, bc=("b", "c")))["swaps"]
    assert swaps.fields["lowered"] == ["a", "bc", "late"]
    assert swaps.needs["export:bc"] == "bc.fuse"


def test_patterns_of_tensors_are_looked_for_in_the_members() -> None:
    calibration = Calibration(**vars(SHARED) | {"method": {"*attention*": "percentile", "default": "minmax"}})
    found = steps(graph(*four(quantized, calibration=calibration), bc=("b", "c")))
    assert set(found["methods_shared"].needs) == {f"ranges:{n}" for n in ("a", "b", "c", "late")}


# -- other builds of it ------------------------------------------------------------------------------


def test_a_contender_merges_it_too() -> None:
    g = graph(*four(), bc=("b", "c"))
    found = baseline_steps(g, g.components[1], Baseline("half", ORT, FP16))
    assert [s.id for s in found] == ["b.export", "c.export", "bc.fuse", "bc.lower_half", "bc.build_half"]


def test_a_contender_has_the_options_that_its_members_ask_for() -> None:
    parts = four()
    parts[1] = replace(parts[1], options={"other": {"streams": 2}, ORT.name: {"threads": 1}})
    g = graph(*parts, bc=("b", "c"))
    contender = Baseline("half", replace(ORT, name="other", options={"streams": 1, "level": 3}), FP16)
    assert contender.of(g.components[1]).backend.options == {"streams": 2, "level": 3}
    assert contender.of(g.components[0]).backend.options == {"streams": 1, "level": 3}


def test_a_fallback_is_merged_too() -> None:
    other = replace(ORT, name="other")
    parts = [replace(p, fallback=other, on_mismatch="other", precision=FP16) for p in four()]
    found = steps(graph(*parts, bc=("b", "c")))
    assert found["bc.lower_fallback"].needs["export"] == "bc.fuse"
    assert found["bc.verify_fallback"].fields["references"] == {"c_out": sent("reference:c", "c_out")}
    assert found["bc.build_fallback"].fields["precision"]["name"] == FP32.name


def test_waveforms_are_judged_by_the_exports_of_all_that_made_them() -> None:
    parts = [*four()[:2], component("c", ["b_out"], [wire("c_out", audio=16000)])]
    verify = steps(graph(*parts, bc=("b", "c")))["bc.verify"]
    assert {r: s for r, s in verify.needs.items() if r.startswith("export:")} == {
        f"export:{n}": f"{n}.export" for n in "abc"
    }


# -- a tool that quantizes by itself -----------------------------------------------------------------


def environment(backend: Backend, precision: str) -> dict[str, object]:
    return {"implicit_int8": True}


def implicit(name: str, reads: list[str], calibration: Calibration = SHARED) -> Component:
    found = quantized(name, reads, calibration=calibration)
    tool = replace(found.backend, environment=f"{environment.__module__}.environment")
    return replace(found, backend=tool, precision=replace(found.precision, implicit=Implicit()))


def test_a_tool_that_calibrates_for_itself_gets_samples_of_the_whole() -> None:
    parts = [implicit("a", ["x"]), implicit("b", ["a_out", "y"]), implicit("c", ["b_out"])]
    found = steps(graph(*parts, bc=("b", "c")))
    build = found["bc.build"]
    assert build.fields["reads"] == {
        "a_out": sent("activations:a", "a_out"),
        "y": sent("samples", "y"),
    }
    assert build.needs["activations:a"] == "a.activations_shared"
    assert set(build.needs.values()) <= found.keys()
    assert {"bc.fuse", "b.export", "c.export"} <= set(build.needs.values())
    assert build.fields["members"]["b"]["quantize"]["op_types"] == ["Conv", "MatMul", "Gemm"]
    assert not [s for s in found if s.endswith((".observe", ".ranges"))]
    assert "b.activations_shared" not in found


def test_a_tool_that_calibrates_for_itself_is_fed_from_one_place() -> None:
    parts = [implicit("a", ["x"]), implicit("b", ["a_out"], replace(SHARED, name="mine"))]
    with pytest.raises(ConfigError) as raised:
        steps(graph(*parts, ab=("a", "b")))
    assert str(raised.value) == (
        "fuse.ab: its members differ in calibration: shared, mine\n  fuse.ab='{members: [a, b], calibration: shared}'"
    )
