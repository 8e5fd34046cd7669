"""Faults of calibration; those of dims, wires and shapes are in test_graph."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from autovoice.errors import ConfigError
from autovoice.graph.wiring import build_graph
from autovoice.spec import Calibration, Component, Quantize, Target
from tests.builders import FP32, NPZ, ORT, POLICY, build_spec, component, graph_of, quantized

SOURCE, CALIBRATOR, RANGES = Target("my.data.samples"), Target("my.code.ranges"), Path("ranges.json")


def faults_of(*components: Component) -> list[str]:
    with pytest.raises(ConfigError) as raised:
        build_graph(build_spec(*components))
    return [str(f) for f in raised.value.faults]


def test_int8_without_calibration_data() -> None:
    assert faults_of(quantized("a", calibration=Calibration("none"))) == [
        "component.a.calibration: int8 needs calibration data, 'none' has none\n"
        "  calibration=npz calibration.files=data.npz, or leave it out: component.<name>.quantize.op_types=[]"
    ]


@pytest.mark.parametrize(
    ("given", "fact"),
    [
        (
            {"source": SOURCE, "calibrator": CALIBRATOR},
            "'mine' has source and calibrator\n  "
            "one of them alone: calibration.source=null, or calibration.calibrator=null",
        ),
        (
            {"source": SOURCE, "ranges": RANGES},
            "'mine' has source and ranges\n  one of them alone: calibration.source=null, or calibration.ranges=null",
        ),
        (
            {"calibrator": CALIBRATOR, "ranges": RANGES},
            "'mine' has calibrator and ranges\n  "
            "one of them alone: calibration.calibrator=null, or calibration.ranges=null",
        ),
        (
            {"source": SOURCE, "calibrator": CALIBRATOR, "ranges": RANGES},
            "'mine' has source and calibrator and ranges\n  "
            "one of them alone: calibration.source=null, or calibration.calibrator=null",
        ),
    ],
    ids=["source_and_calibrator", "source_and_ranges", "calibrator_and_ranges", "all"],
)
def test_more_than_one_place_that_ranges_come_from(given: dict, fact: str) -> None:
    assert faults_of(quantized("a", calibration=Calibration("mine", **given))) == [f"component.a.calibration: {fact}"]


@pytest.mark.parametrize(
    "given",
    [{"source": SOURCE}, {"calibrator": CALIBRATOR}, {"ranges": RANGES}],
    ids=["source", "calibrator", "ranges"],
)
def test_one_of_them_alone(given: dict) -> None:
    assert graph_of(quantized("a", calibration=Calibration("mine", **given))).components[0].quantized


def test_every_file_that_is_missing() -> None:
    absent = ("there is no file 'a.npz'", "there is no file 'b/*.wav'")
    assert faults_of(quantized("a", calibration=replace(NPZ, absent=absent))) == [
        f"calibration.files: {fact}\n  calibration.files=/path/to/file, a folder or a pattern" for fact in absent
    ]


def test_one_calibration_of_several_components_is_said_once() -> None:
    parts = [quantized(n, calibration=replace(NPZ, absent=("there is no file 'a.npz'",))) for n in "ab"]
    with pytest.raises(ConfigError) as raised:
        build_graph(build_spec(*parts))
    assert str(raised.value).count("there is no file 'a.npz'") == 1


UNUSABLE = Calibration("mine", source=SOURCE, calibrator=CALIBRATOR, absent=("there is no file 'a.npz'",))


@pytest.mark.parametrize(
    "part",
    [
        component("a", calibration=UNUSABLE),
        quantized("a", calibration=UNUSABLE, quantize=Quantize()),
        quantized("a", calibration=UNUSABLE, quantize=None, precision=FP32),
    ],
    ids=["float32", "policy_that_names_nothing", "no_policy"],
)
def test_calibration_does_not_matter_where_nothing_is_quantized(part: Component) -> None:
    assert graph_of(part).outputs == ("a_out",)


def test_int8_on_a_backend_without_it() -> None:
    assert faults_of(quantized("a", backend=ORT)) == [
        "component.a.precision: onnxruntime cannot run int8 (int8)\n"
        "  it runs float16, float32: precision=fp32 (for one: component.<name>.precision=fp32)"
    ]


def test_a_gate_without_a_threshold_for_int8() -> None:
    """Metrics that name only the precisions they are meant for need none."""
    gate = replace(quantized("a").gate, component={"snr_db": {"fp32": 60}, "pooled_cosine": {"fp8": 0.98}})
    assert faults_of(quantized("a", gate=gate)) == [
        "gate.component.snr_db: has no threshold for precision 'int8'\n  +gate.component.snr_db.int8=…; it has fp32"
    ]


def test_faults_of_calibration_with_all_others_at_once() -> None:
    faults = faults_of(
        quantized("a", backend=ORT, calibration=Calibration("none"), quantize=POLICY),
        quantized("b", ["nothing"], calibration=replace(NPZ, absent=("there is no file 'a.npz'",))),
    )
    assert [f.partition(":")[0] for f in faults] == [
        "component.a.precision",
        "component.a.calibration",
        "component.b.inputs.nothing",
        "calibration.files",
    ]
