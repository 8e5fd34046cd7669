"""The steps of a graph in which nothing is quantized, and what they read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from autovoice.graph.wiring import Graph
from autovoice.plan.rules import steps_of
from autovoice.spec import Checkpoint, Dim, Gate, Keep, OnnxFile, Target
from autovoice.store.hashing import canonical_json
from tests.builders import FP16, GATE, ORT, component, graph_of, sent, wire
from tests.plan.rules.graphs import steps

KINDS = ("export", "reference", "lower", "build", "verify")


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
