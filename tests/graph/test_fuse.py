"""Groups of components as one: what it reads and gives out, and which groups cannot be one engine."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from autovoice.errors import ConfigError, Fault
from autovoice.graph.fuse import fused
from autovoice.graph.wiring import Graph, build_graph
from autovoice.spec import Component, Gate, Group, Input, Keep, OnnxFile, Quantize
from tests.builders import FP16, FP32, GATE, ORT, build_spec, component, quantized, wire


def merged(*parts: Component, wanted: tuple[str, ...] = (), **groups: tuple[str, ...]) -> tuple[Component, ...]:
    faults: list[Fault] = []
    found = fused(parts, [Group(n, m) for n, m in groups.items()], wanted, faults)
    assert faults == []
    return found


def faults_of(*parts: Component, **groups: tuple[str, ...]) -> list[str]:
    faults: list[Fault] = []
    found = fused(parts, [Group(n, m) for n, m in groups.items()], (), faults)
    assert found == parts  # a group at fault is left as it was
    return [str(f) for f in faults]


def chain(n: int = 4) -> list[Component]:
    """c0 reads x, each of the others what the one before makes."""
    return [component(f"c{i}", [f"c{i - 1}_out" if i else "x"]) for i in range(n)]


def graph(*parts: Component, targets: tuple[str, ...] = (), **groups: tuple[str, ...]) -> Graph:
    return build_graph(build_spec(*merged(*parts, **groups), inputs=["x", "y"], targets=targets))


# -- what comes out --------------------------------------------------------------------------------


def test_a_chain_is_read_at_its_start_and_gives_out_its_end() -> None:
    (c,) = merged(*chain(3), all=("c2", "c0", "c1"))
    assert (c.name, c.place, [m.name for m in c.members]) == ("all", "fuse.all", ["c0", "c1", "c2"])
    assert c.inputs == (Input("x", "x"),)
    assert [(o.local, o.tensor) for o in c.outputs] == [("c2_out", wire("c2_out"))]
    assert (c.model, c.onnx, c.checkpoint) == (None, None, None)


def test_it_stands_where_its_first_member_stood() -> None:
    assert [c.name for c in merged(*chain(4), mid=("c1", "c2"))] == ["c0", "mid", "c3"]


def test_inner_wires_that_someone_else_reads_are_given_out() -> None:
    parts = [*chain(3), component("late", ["c0_out", "c2_out"])]
    found = merged(*parts, all=("c0", "c1", "c2"))
    assert [o.local for o in found[0].outputs] == ["c0_out", "c2_out"]


def test_inner_wires_that_the_pipeline_gives_out_are_given_out_too() -> None:
    (c,) = merged(*chain(3), wanted=("c1_out",), all=("c0", "c1", "c2"))
    assert [o.local for o in c.outputs] == ["c1_out", "c2_out"]


def test_what_nobody_reads_is_given_out() -> None:
    parts = [component("a", makes=["passed", "kept"]), component("b", ["passed"])]
    assert [o.local for o in merged(*parts, ab=("a", "b"))[0].outputs] == ["kept", "b_out"]


def test_a_wire_that_several_members_read_is_one_input_called_as_the_wire() -> None:
    parts = [component("a", [Input("signal", "x")]), component("b", [Input("raw", "x"), "a_out"])]
    assert merged(*parts, ab=("a", "b"))[0].inputs == (Input("x", "x"),)


def test_members_side_by_side_need_no_wire_between_them() -> None:
    parts = [component("a"), component("b", ["y"]), component("c", ["a_out", "b_out"])]
    both, _ = merged(*parts, both=("a", "b"))
    assert [i.wire for i in both.inputs] == ["x", "y"]
    assert [o.local for o in both.outputs] == ["a_out", "b_out"]


def test_gates_are_those_of_the_last_member() -> None:
    loose = Gate({"snr_db": {"fp32": 10}}, {})
    parts = [component("b", ["a_out"], gate=loose), component("a", gate=GATE)]
    assert merged(*parts, ab=("b", "a"))[0].gate == loose


def test_policies_of_the_members_are_one() -> None:
    a = quantized("a", quantize=Quantize(("Conv",)), keep=Keep(nodes=("n",)))
    b = quantized("b", ["a_out"], quantize=Quantize(("MatMul",)), keep=Keep(op_types=("Softmax",)))
    c = quantized("c", ["b_out"], quantize=Quantize(()))
    (one,) = merged(a, b, c, abc=("a", "b", "c"))
    assert one.quantize is not None
    assert one.quantize.op_types == ("Conv", "MatMul")
    assert one.keep == Keep(op_types=("Softmax",), nodes=("n",))
    assert one.quantized


def test_members_none_of_which_quantizes_anything_stay_in_the_higher_precision() -> None:
    parts = [quantized("a", quantize=Quantize(())), quantized("b", ["a_out"], quantize=Quantize(()))]
    (one,) = merged(*parts, ab=("a", "b"))
    assert one.primary.precision == FP32
    assert one.primary.component.members == one.members


# -- what cannot be --------------------------------------------------------------------------------


def test_what_stands_between_two_members_must_be_one() -> None:
    assert faults_of(*chain(4), far=("c0", "c3")) == [
        "fuse.far: c1, c2 stand between c0 and c3\n  fuse.far=[c0, c1, c2, c3], or leave one of the two out"
    ]
    assert faults_of(*chain(3), far=("c0", "c2")) == [
        "fuse.far: c1 stands between c0 and c2\n  fuse.far=[c0, c1, c2], or leave one of the two out"
    ]


def test_a_way_around_beside_a_direct_one() -> None:
    parts = [component("a"), component("b", ["a_out"]), component("c", ["a_out", "b_out"])]
    assert faults_of(*parts, ac=("a", "c"))[0].startswith("fuse.ac: b stands between a and c")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"precision": FP16}, "precision: a fp32, b fp16"),
        ({"backend": replace(ORT, name="other")}, "backend: a onnxruntime, b other"),
        ({"only_if_faster": True}, "only_if_faster: a false, b true"),
        ({"on_mismatch": "rebuild"}, "on_mismatch: a fail, b rebuild"),
    ],
)
def test_what_members_must_have_in_common(change: dict[str, object], expected: str) -> None:
    key = expected.partition(":")[0]
    assert faults_of(component("a"), component("b", ["a_out"], **change), ab=("a", "b")) == [
        f"fuse.ab: its members differ in {expected}\n"
        f"  {{members: [a, b], {key}: …}} sets it for all, or component.<name>.{key}"
    ]


def asking(name: str, *inputs: str, **options: object) -> Component:
    """A component with options of its own, over a backend with two."""
    backend = replace(ORT, options={"streams": 1, "level": 3})
    own = {ORT.name: options} if options else {}
    return component(name, list(inputs) or ["x"], backend=backend.with_options(own), options=own)


def test_options_that_members_ask_for_themselves_hold_for_the_whole() -> None:
    (c,) = merged(asking("a"), asking("b", "a_out", streams=2), asking("c", "b_out", level=5), all=("a", "b", "c"))
    assert c.backend.options == {"streams": 2, "level": 5}
    assert c.options == {ORT.name: {"streams": 2, "level": 5}}


def test_options_of_a_backend_that_is_not_used_are_no_matter() -> None:
    parts = [
        component(n, r, options={"other": {"streams": i}})
        for i, (n, r) in enumerate({"a": ["x"], "b": ["a_out"]}.items())
    ]
    (c,) = merged(*parts, ab=("a", "b"))
    assert c.backend == ORT


def test_another_value_for_all_than_what_one_asks_for_itself() -> None:
    """One asks for 2, of the two that ask for nothing one has a backend of its own: that is no agreement."""
    own = replace(ORT, options={"streams": 7, "level": 3})
    parts = [asking("a", streams=2), asking("b", "a_out"), component("c", ["b_out"], backend=own)]
    assert faults_of(*parts, all=("a", "b", "c"))[0].startswith("fuse.all: its members differ in backend")


def test_options_that_members_disagree_in() -> None:
    parts = [asking("a", streams=1), asking("b", "a_out", streams=2), asking("c", "b_out")]
    assert faults_of(*parts, all=("a", "b", "c")) == [
        "fuse.all: its members differ in options.onnxruntime.streams: a 1, b 2\n"
        "  {members: [a, b, c], options: {onnxruntime: {streams: …}}} sets it for all"
    ]


def test_groups_that_would_wait_for_each_other() -> None:
    parts = [
        *(component("a1"), component("b1", ["a1_out"])),
        *(component("b2", ["y"]), component("a2", ["b2_out"])),
    ]
    with pytest.raises(ConfigError) as raised:
        graph(*parts, a=("a1", "a2"), b=("b1", "b2"))
    assert str(raised.value) == "fuse.a: a cycle: a → b → a\n  fuse all of them into one, or fewer"


def test_a_cycle_that_was_there_is_told_as_ever() -> None:
    parts = [component("a", ["b_out"]), component("b", ["a_out"])]
    with pytest.raises(ConfigError, match="a cycle: a → b → a"):
        build_graph(build_spec(*parts))


# -- the graph -------------------------------------------------------------------------------------


def test_one_component_in_order_whose_members_make_the_wires() -> None:
    found = graph(*reversed(chain(4)), mid=("c1", "c2"))
    assert [c.name for c in found.components] == ["c0", "mid", "c3"]
    assert [p.name for p in found.parts] == ["c0", "c1", "c2", "c3"]
    assert found.producers == {"x": None, "y": None, **{f"c{i}_out": f"c{i}" for i in range(4)}}
    assert found.outputs == ("c3_out",)


def test_a_fused_target_keeps_what_it_needs_alone() -> None:
    found = graph(*chain(4), targets=("mid",), mid=("c1", "c2"))
    assert [c.name for c in found.components] == ["c0", "mid"]
    assert found.outputs == ("c2_out",)


def test_faults_of_members_stand_where_the_members_do() -> None:
    parts = [component("a", ["nothing"]), component("b", ["a_out"])]
    with pytest.raises(ConfigError) as raised:
        graph(*parts, ab=("a", "b"))
    assert [f.where for f in raised.value.faults] == ["component.a.inputs.nothing"]


def test_a_backend_that_runs_modules_runs_none_of_several() -> None:
    modules = replace(ORT, from_module=True)
    parts = [component("a", backend=modules), component("b", ["a_out"], backend=modules)]
    with pytest.raises(ConfigError) as raised:
        graph(*parts, ab=("a", "b"))
    assert str(raised.value) == (
        "fuse.ab.backend: onnxruntime runs a component's own module, and this one is one of several, fused\n  fuse=null"
    )


def test_a_file_that_is_quantized_already_is_fused_with_nothing_that_is_to_be_quantized() -> None:
    given = quantized(
        "b", ["a_out"], model=None, onnx=OnnxFile(Path("b.onnx"), (), ("MatMulInteger",))
    ).in_file_precision()
    assert faults_of(quantized("a"), given, both=("a", "b")) == [
        "fuse.both: b: a file that is quantized already cannot be fused with components to be quantized\n"
        "  leave it out of the group, or precision=fp32"
    ]
    in_float32 = replace(given, precision=FP32, backend=ORT, gate=GATE).in_file_precision()
    (c,) = merged(component("a"), replace(in_float32, calibration=component("a").calibration), both=("a", "b"))
    assert c.prequantized == ("MatMulInteger",)
