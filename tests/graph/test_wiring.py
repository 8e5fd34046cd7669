from __future__ import annotations

import random
from dataclasses import replace

import pytest

from autovoice.errors import ConfigError, Fault
from autovoice.graph.wiring import build_graph
from autovoice.spec import BuildSpec, Dim, Gate, Input
from tests.builders import BF16, FP16, FRAMES, ORT, build_spec, component, composed_graph, graph_of, wire


def faults_of(spec: BuildSpec) -> list[str]:
    with pytest.raises(ConfigError) as raised:
        build_graph(spec)
    return [str(f) for f in raised.value.faults]


def chain(n: int) -> list:
    """c0 reads x, each of the others what the one before makes."""
    return [component(f"c{i}", [f"w{i}" if i else "x"], [f"w{i + 1}"]) for i in range(n)]


# -- what a sound graph is -------------------------------------------------------------------------


def test_components_stand_after_what_they_read() -> None:
    parts = [component("c", ["a_out", "b_out"]), component("b", ["a_out", "y"]), component("a")]
    graph = graph_of(*parts, inputs=["x", "y", "unread"])
    assert [c.name for c in graph.components] == ["a", "b", "c"]
    assert graph.outputs == ("c_out",)
    assert [t.name for t in graph.inputs] == ["x", "y"]
    assert graph.producers == {"x": None, "y": None, "unread": None, "a_out": "a", "b_out": "b", "c_out": "c"}


def test_independent_components_keep_the_order_of_the_configuration() -> None:
    graph = graph_of(component("z"), component("m"), component("a"))
    assert [c.name for c in graph.components] == ["z", "m", "a"]


def test_a_wire_may_have_another_name_inside_its_reader() -> None:
    graph = graph_of(component("b", [Input("mel_input", "a_out")]), component("a"))
    assert [c.name for c in graph.components] == ["a", "b"]


def test_a_backend_whose_engines_nothing_could_load_is_refused() -> None:
    lost = replace(ORT, name="mine", target="my.backend.Mine")
    with pytest.raises(ConfigError) as raised:
        graph_of(component("a", backend=lost))
    assert raised.value.faults[0].where == "component.a.backend"
    assert "backend class my.backend.Mine is not registered" in str(raised.value)
    assert 'register the class: [project.entry-points."autovoice.backends"] mine = "package.module:Class"' in str(
        raised.value
    )


def test_expectations_that_hold_are_no_fault() -> None:
    reader = component("r", [Input("x", "x", "float32", (1, "frames"))], dims={"frames": {"min": 1, "max": 9}})
    assert graph_of(reader).outputs == ("r_out",)


def test_outputs_are_those_that_nobody_reads_unless_named() -> None:
    parts = [component("a", makes=["kept", "passed"]), component("b", ["passed"])]
    assert graph_of(*parts).outputs == ("kept", "b_out")
    assert graph_of(*parts, outputs=("passed",)).outputs == ("passed",)


def test_targets_keep_their_ancestors_alone() -> None:
    parts = [component("a"), component("b", ["a_out"]), component("c", ["b_out"]), component("d", ["a_out", "y"])]
    graph = graph_of(*parts, inputs=["x", "y"], targets=("b",))
    assert [c.name for c in graph.components] == ["a", "b"]
    assert graph.outputs == ("b_out",)
    assert [t.name for t in graph.inputs] == ["x"]


def test_without_targets_everything_is_kept_whatever_outputs_are_named() -> None:
    graph = graph_of(component("a"), component("b", ["a_out"]), outputs=("a_out",))
    assert [c.name for c in graph.components] == ["a", "b"]


@pytest.mark.parametrize("override", ["~component.vocoder", "~component/vocoder"], ids=["key", "group"])
def test_without_the_vocoder_the_mel_is_the_output(override: str) -> None:
    graph = composed_graph(override)
    assert "vocoder" not in [c.name for c in graph.components]
    assert graph.outputs == ("mel_output",)


def test_a_chain_of_1000_given_in_any_order() -> None:
    parts = chain(1000)
    random.Random(0).shuffle(parts)
    graph = graph_of(*parts)
    assert [c.name for c in graph.components] == [f"c{i}" for i in range(1000)]
    assert graph.outputs == ("w1000",)
    assert [c.name for c in graph_of(*parts, targets=("c499",)).components] == [f"c{i}" for i in range(500)]


# -- wires -----------------------------------------------------------------------------------------


def test_two_producers_of_one_wire() -> None:
    assert faults_of(build_spec(component("a", makes=["y"]), component("b", makes=["y"]))) == [
        "component.b.outputs.y: 'y' is already produced by component.a\n  rename one of the two"
    ]


def test_a_component_may_not_produce_an_external_input() -> None:
    assert faults_of(build_spec(component("a", ["y"], ["x"]), inputs=["x", "y"])) == [
        "component.a.outputs.x: 'x' is already produced by pipeline.inputs\n  rename one of the two"
    ]


def test_unknown_wire_with_the_nearest() -> None:
    spec = build_spec(component("mel", makes=["mel_output"]), component("voc", [Input("mel", "mel_ouput")]))
    assert faults_of(spec) == [
        "component.voc.inputs.mel: no one produces 'mel_ouput'\n"
        "  did you mean 'mel_output'? available: mel_output, voc_out, x"
    ]


@pytest.mark.parametrize("outputs", [("y",), ("x",)], ids=["unknown", "external"])
def test_unknown_pipeline_output(outputs: tuple[str, ...]) -> None:
    assert faults_of(build_spec(component("a"), outputs=outputs)) == [
        f"pipeline.outputs: no component produces '{outputs[0]}'\n  available: a_out"
    ]


def test_a_cycle_of_three_is_shown_as_its_path() -> None:
    ring = [component("a", ["b_out", "x"]), component("b", ["c_out"]), component("c", ["a_out"])]
    assert faults_of(build_spec(*ring, component("fine"))) == [
        "component.a.inputs: a cycle: a → b → c → a\n  one of these must read another wire"
    ]


def test_what_merely_follows_a_cycle_is_not_part_of_its_path() -> None:
    parts = [component("after", ["b_out"]), component("a", ["b_out"]), component("b", ["a_out"])]
    assert faults_of(build_spec(*parts)) == [
        "component.b.inputs: a cycle: b → a → b\n  one of these must read another wire"
    ]


def test_a_component_that_reads_itself() -> None:
    assert faults_of(build_spec(component("a", ["x", "a_out"]))) == [
        "component.a.inputs: a cycle: a → a\n  one of these must read another wire"
    ]


def test_a_cycle_of_1000() -> None:
    first, *rest = chain(1000)
    spec = build_spec(replace(first, inputs=(Input("w1000", "w1000"),)), *rest)
    (fault,) = faults_of(spec)
    assert fault.startswith("component.c0.inputs: a cycle: c0 → c999 → c998 → ")


# -- what a component expects of its wires ---------------------------------------------------------


@pytest.mark.parametrize(
    ("reads", "expected"),
    [
        pytest.param(
            Input("mel", "x", dtype="float16"),
            "component.r.inputs.mel: expects float16, 'x' is float32\n  a component may convert it; wires never do",
            id="dtype",
        ),
        pytest.param(
            Input("mel", "x", shape=(1, 80, "frames")),
            "component.r.inputs.mel: expects layout [1, 80, frames], 'x' is [1, frames, 80]\n"
            "  a component may transpose it; wires never do",
            id="layout",
        ),
    ],
)
def test_expectations_that_do_not_hold(reads: Input, expected: str) -> None:
    assert faults_of(build_spec(component("r", [reads]), inputs=[wire("x", 1, "frames", 80)])) == [expected]


@pytest.mark.parametrize(
    ("limits", "shown"),
    [({"max": 7}, "2 … 7"), ({"min": 3}, "3 … 8"), ({"min": 3, "max": 7}, "3 … 7")],
    ids=["max", "min", "both"],
)
def test_a_consumer_narrower_than_its_producer(limits: dict[str, int], shown: str) -> None:
    low, high = shown.split(" … ")
    assert faults_of(build_spec(component("a"), component("b", ["a_out"], dims={"frames": limits}))) == [
        f"component.b.dims.frames: frames {shown} is narrower than 'a_out' sends, 2 … 8\n"
        f"  widen it, or dims.frames.min={low} dims.frames.max={high} for the whole pipeline"
    ]


def test_limits_of_a_dim_that_no_input_has_bind_nobody() -> None:
    limited = component("a", dims={"other": {"max": 1}})
    assert graph_of(limited, dims=[FRAMES, Dim("other", 1, 2, 3)]).outputs == ("a_out",)


# -- dims and shapes -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dim", "expected"),
    [
        pytest.param(
            Dim("frames", 5, 4, 8),
            "dims.frames: needs min ≤ opt ≤ max, got min 5, opt 4, max 8"
            "\n  set dims.frames.min, dims.frames.opt, dims.frames.max in order",
            id="min_above_opt",
        ),
        pytest.param(
            Dim("frames", 2, 9, 8),
            "dims.frames: needs min ≤ opt ≤ max, got min 2, opt 9, max 8"
            "\n  set dims.frames.min, dims.frames.opt, dims.frames.max in order",
            id="opt_above_max",
        ),
        pytest.param(
            Dim("frames", 0, 4, 8),
            "dims.frames: is 0 at min\n  every dim is at least 1: raise dims.frames.min",
            id="zero",
        ),
        pytest.param(
            Dim("frames", -3, 4, 8, formula="samples-8"),
            "dims.frames: is -3 at min from 'samples-8'\n  every dim is at least 1: raise the min it follows",
            id="derived_below_1",
        ),
        pytest.param(
            Dim("frames", 4, 6, 8, multiple=4),
            "dims.frames: needs multiples of 4, got min 4, opt 6, max 8\n  dims.frames.opt=8",
            id="multiple",
        ),
        pytest.param(
            Dim("frames", 5, 6, 9, profile="samples//9", multiple=4),
            "dims.frames: needs multiples of 4, got min 5, opt 6, max 9"
            "\n  dims.frames.multiple=1, or min, opt and max of its own",
            id="multiple_of_what_follows",
        ),
        pytest.param(
            Dim("frames", 2, 4, 8, buckets=(1, 4, 9)),
            "dims.frames.buckets: [1, 9] lie outside min 2 … max 8"
            "\n  dims.frames.buckets=[4], or dims.frames.min=1 dims.frames.max=9",
            id="buckets",
        ),
        pytest.param(
            Dim("frames", 2, 4, 8, buckets=(0, 3)),
            "dims.frames.buckets: [0] lie outside min 2 … max 8\n  dims.frames.buckets=[3]",
            id="no_bucket",
        ),
        pytest.param(
            Dim("frames", 2, 4, 8, profile="samples//9", buckets=(9,)),
            "dims.frames.buckets: [9] lie outside min 2 … max 8\n  dims.frames.buckets=[]",
            id="buckets_of_what_follows",
        ),
        pytest.param(
            Dim("frames", 2, 4, 8, multiple=2, buckets=(5, 6)),
            "dims.frames.buckets: [5] are no multiples of 2\n  dims.frames.buckets=[6]",
            id="buckets_between_multiples",
        ),
    ],
)
def test_dims(dim: Dim, expected: str) -> None:
    assert faults_of(build_spec(component("a"), dims=[dim])) == [expected]


def test_a_derived_dim_owes_no_multiple_and_has_no_buckets() -> None:
    derived = Dim("frames", 3, 5, 7, formula="n+1", multiple=2)
    assert graph_of(component("a"), dims=[derived]).dims["frames"] == derived
    assert faults_of(build_spec(component("a"), dims=[replace(derived, buckets=(3, 7))])) == [
        "dims.frames.buckets: a derived dim has no range of its own\n"
        "  buckets of what it is computed from: dims.n.buckets"
    ]


def test_a_derived_dim_below_1_in_the_shipped_tree() -> None:
    with pytest.raises(ConfigError, match=r"dims\.content_frames: is 0 at min from '\(samples-80\)//320'"):
        composed_graph("dims.frames.min=2")


@pytest.mark.parametrize(
    ("override", "fact"),
    [
        ("dims.frames.max=null", "dims.frames.max: is required"),
        ("dims.frames.max=1024.5", "dims.frames.max: must be a whole number, got 1024.5"),
        ("dims.frames.min=x*", "dims.frames.min: 'x*' is not arithmetic over dimensions"),
        ("dims.content_frames=samples +", "dims.content_frames.formula: 'samples +' is not arithmetic over dimensions"),
        ("dims.samples.profile=100*frmes", "dims.samples: reads the unknown dim 'frmes'"),
    ],
    ids=["none", "fraction", "syntax", "formula", "unknown"],
)
def test_a_bound_at_fault_is_not_held_against_the_others(override: str, fact: str) -> None:
    with pytest.raises(ConfigError) as raised:
        composed_graph(override, "dims.frames.buckets=[512]")
    assert str(raised.value.faults[0]).splitlines()[0] == fact
    assert {f.where.split(".")[1] for f in raised.value.faults} <= {"frames", "samples", "content_frames"}
    assert all("needs" not in f.fact and "lie outside" not in f.fact for f in raised.value.faults)


def test_a_bound_at_fault_hides_no_other_dims_fault() -> None:
    with pytest.raises(ConfigError) as raised:
        composed_graph("dims.frames.max=null", "dims.batch.opt=9")
    assert [f.where for f in raised.value.faults] == ["dims.frames.max", "dims.batch"]


def test_an_unbound_symbol_in_an_output_and_in_an_external_input() -> None:
    spec = build_spec(component("a", makes=[wire("y", "frmes", "2*k")]), inputs=[wire("x", "batch")])
    assert faults_of(spec) == [
        "pipeline.inputs.x.shape: unbound symbol 'batch'\n  available: frames",
        "component.a.outputs.y.shape: unbound symbol 'frmes'\n  did you mean 'frames'? available: frames",
        "component.a.outputs.y.shape: unbound symbol 'k'\n  available: frames",
    ]


@pytest.mark.parametrize(
    ("axis", "expected"),
    [
        ("frames - 2", "'frames - 2' is 0 at min, 2 at opt, 6 at max\n  needs 1 ≤ min ≤ opt ≤ max"),
        ("10 - frames", "'10 - frames' is 8 at min, 6 at opt, 2 at max\n  needs 1 ≤ min ≤ opt ≤ max"),
        (
            "frames/4",
            "'frames/4' is 0.5, not a whole number\n  a // b and floor(a/b) round down, ceil(a/b) rounds up",
        ),
    ],
    ids=["below_1", "falling", "fraction"],
)
def test_axes_by_their_size(axis: str, expected: str) -> None:
    assert faults_of(build_spec(component("a", makes=[wire("y", 1, axis)]))) == [
        f"component.a.outputs.y.shape: {expected}"
    ]


# -- choices ---------------------------------------------------------------------------------------


def test_a_precision_that_the_backend_cannot_run() -> None:
    spec = build_spec(component("a", precision=BF16, gate=Gate({}, {})))
    assert faults_of(spec) == [
        "component.a.precision: onnxruntime cannot run bf16 (bfloat16)\n"
        "  it runs float16, float32: precision=fp32 (for one: component.<name>.precision=fp32)"
    ]


def test_a_gate_without_a_threshold_for_the_precision() -> None:
    gate = Gate({"snr_db": {"fp32": 60}}, {"cosine": {"fp32": 0.9, "bf16": 0.8}})
    assert faults_of(build_spec(component("a", precision=FP16, gate=gate))) == [
        "gate.component.snr_db: has no threshold for precision 'fp16'\n  +gate.component.snr_db.fp16=…; it has fp32",
        "gate.end_to_end.cosine: has no threshold for precision 'fp16'\n"
        "  +gate.end_to_end.cosine.fp16=…; it has bf16, fp32",
    ]


@pytest.mark.parametrize("more", [{"default": 16000}, {"example": {"integers": [0, 3]}}], ids=["default", "example"])
def test_whole_numbers_need_values_of_a_sensible_range(more: dict) -> None:
    rate = wire("rate", 1, dtype="int32")
    assert faults_of(build_spec(component("a", ["rate"]), inputs=[rate])) == [
        "pipeline.inputs.rate: int32 without a `default:` or an `example:`\n"
        "  parity needs values of a sensible range: example: {integers: [low, high]}"
    ]
    assert graph_of(component("a", ["rate"]), inputs=[replace(rate, **more)]).outputs == ("a_out",)


# -- all at once -----------------------------------------------------------------------------------


def test_faults_of_every_kind_at_once_the_callers_first() -> None:
    spec = build_spec(
        component("a", makes=["y", wire("z", "frames - 2"), wire("q", "frames - 4")]),
        component("b", ["nothing"], ["y"]),
        component("c", ["d_out"], precision=BF16, gate=Gate({}, {})),
        component("d", [Input("c_out", "c_out", "int8")]),
        inputs=["x", wire("n", dtype="uint8")],
        outputs=("lost",),
    )
    with pytest.raises(ConfigError) as raised:
        build_graph(spec, [Fault("earlier", "said before", "mend it")])
    assert [f.where for f in raised.value.faults] == [
        "earlier",
        "component.b.outputs.y",
        "component.b.inputs.nothing",
        "component.c.precision",
        "component.d.inputs.c_out",
        "component.a.outputs.z.shape",
        "component.a.outputs.q.shape",
        "pipeline.inputs.n",
        "component.c.inputs",
        "pipeline.outputs",
    ]


def test_sizes_are_not_judged_by_dims_that_are_wrong_themselves() -> None:
    spec = build_spec(component("a", makes=[wire("y", "8 - frames")]), dims=[Dim("frames", 5, 4, 8)])
    assert [f.partition(":")[0] for f in faults_of(spec)] == ["dims.frames"]
