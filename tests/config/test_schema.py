from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper

from autovoice.config.schema import SpecReader
from autovoice.errors import Fault, nearest
from autovoice.spec import BuildSpec, Calibration, Checkpoint, Export, Input, Keep, OnnxFile, Target, Tensor

FP32 = {"name": "fp32", "type": "float32", "lowering": {"_target_": "pkg.lower.keep", "level": 3}}
FP16 = FP32 | {"name": "fp16", "type": "float16", "keep": {"op_types": ["Softmax"]}}
ORT = {"name": "ort", "_target_": "pkg.Ort", "types": ["float32", "float16"], "options": {"threads": 0}}
GATE = {"component": {"snr_db": {"fp32": 60}}, "end_to_end": {"max_abs": {"fp32": 0.5}}}
GROUPS = {"precision": {"fp32": FP32, "fp16": FP16}, "backend": {"ort": ORT}, "gate": {"loose": GATE}}
NODE = {
    "model": {"_target_": "pkg.models.Encoder", "channels": 4},
    "inputs": ["audio"],
    "outputs": {"features": {"dtype": "float32", "shape": ["batch", "2 *frames"]}},
}


def lookup(group: str, name: str, where: str) -> Mapping[str, Any] | Fault:
    options = GROUPS.get(group, {})
    return options.get(name) or Fault(where, f"unknown {group} '{name}'", nearest(name, options))


lookup.names = lambda group: list(GROUPS.get(group, {}))


def tree(encoder: Mapping[str, Any] | None = None, /, **changes: Any) -> dict[str, Any]:
    """A whole configuration with the one component `encoder`, changed."""
    return {
        "pipeline": {"name": "toy", "inputs": {"audio": {"dtype": "float32", "shape": ["batch", "frames"]}}},
        "dims": {"batch": {"min": 1, "opt": 1, "max": 1}, "frames": {"min": 2, "opt": 4, "max": 8}},
        "component": {"encoder": NODE | dict(encoder or {})},
        "precision": FP32,
        "backend": ORT,
        "gate": GATE,
        "calibration": {"name": "none"},
    } | changes


def read(data: Mapping[str, Any]) -> BuildSpec:
    reader = SpecReader(data, lookup)
    spec = reader.build()
    assert reader.faults == []
    return spec


def faults_of(data: Mapping[str, Any]) -> list[str]:
    reader = SpecReader(data, lookup)
    reader.build()
    return [str(f) for f in reader.faults]


def test_the_smallest_tree() -> None:
    spec = read(tree())
    (c,) = spec.components
    assert spec.pipeline.inputs == (Tensor("audio", "float32", ("batch", "frames")),)
    assert (spec.pipeline.name, spec.pipeline.outputs, spec.targets) == ("toy", (), ())
    assert (c.name, c.model, c.onnx, c.checkpoint) == (
        "encoder",
        Target("pkg.models.Encoder", {"channels": 4}),
        None,
        None,
    )
    assert c.inputs == (Input("audio", "audio"),)
    assert [(o.local, o.tensor) for o in c.outputs] == [
        ("features", Tensor("features", "float32", ("batch", "2*frames")))
    ]
    assert (c.precision.name, c.backend.name, c.calibration) == ("fp32", "ort", Calibration("none"))
    assert c.precision.lowering == Target("pkg.lower.keep", {"level": 3})
    assert (c.export, c.keep, c.dims, c.seed) == (Export(), Keep(), {}, 0)


@pytest.mark.parametrize(
    ("inputs", "expected"),
    [
        pytest.param(["audio"], Input("audio", "audio"), id="list"),
        pytest.param({"x": "audio"}, Input("x", "audio"), id="mapping"),
        pytest.param({"audio": {}}, Input("audio", "audio"), id="own_name"),
        pytest.param(
            {"x": {"wire": "audio", "dtype": "int32", "shape": ["batch", 2]}},
            Input("x", "audio", "int32", ("batch", 2)),
            id="expectations",
        ),
    ],
)
def test_inputs(inputs: Any, expected: Input) -> None:
    assert read(tree({"inputs": inputs})).components[0].inputs == (expected,)


def test_an_outputs_own_name_may_differ_from_its_wire() -> None:
    (output,) = (
        read(tree({"outputs": {"wire": {"onnx_name": "y", "dtype": "bool", "shape": [1]}}})).components[0].outputs
    )
    assert (output.local, output.tensor) == ("y", Tensor("wire", "bool", (1,)))


@pytest.mark.parametrize(
    ("node", "expected"),
    [
        pytest.param("a.pth", Checkpoint(Path("a.pth")), id="path"),
        pytest.param(
            {"path": "a.pth", "key": "model", "prefix": "flow.", "strict": False},
            Checkpoint(Path("a.pth"), "model", "flow.", False),
            id="mapping",
        ),
    ],
)
def test_checkpoint(node: Any, expected: Checkpoint) -> None:
    assert read(tree({"checkpoint": node})).components[0].checkpoint == expected


def test_an_onnx_file_stands_for_a_module(tmp_path: Path) -> None:
    path = tmp_path / "encoder.onnx"
    (c,) = read(tree({"model": None, "onnx": str(path)})).components
    assert (c.model, c.onnx) == (None, OnnxFile(path))


def quantized_file(path: Path) -> dict[str, Any]:
    """A tree whose component is a file with an integer product in it."""
    x, y = (helper.make_tensor_value_info(n, TensorProto.INT8, ["n", 8]) for n in "xy")
    nodes = [helper.make_node("MatMulInteger", ["x", "x"], ["y"])]
    onnx.save(helper.make_model(helper.make_graph(nodes, "g", [x], [y])), path)
    return {"model": None, "onnx": str(path)}


@pytest.mark.parametrize("precision", ["fp16", "int8", "bf16", "fp8"])
def test_a_file_that_is_quantized_already_is_kept_as_it_is(precision: str, tmp_path: Path) -> None:
    """Whatever is asked: without calibration data, and on a backend that has no such type."""
    types = {"fp16": "float16", "bf16": "bfloat16", "fp8": "float8"}
    asked = FP32 | {"name": precision, "type": types.get(precision, precision)}
    asked |= {"quantize": {"op_types": ["MatMul"]}} if precision in ("int8", "fp8") else {}
    spec = read(tree(quantized_file(tmp_path / "e.onnx"), precision=asked))
    (c,) = spec.components
    assert (c.prequantized, c.quantize, c.quantized, c.baseline) == (("MatMulInteger",), None, False, None)
    assert (c.precision.name, c.precision.type, c.precision.judged_as) == (precision, "float32", precision)
    assert c.primary.lowering.path == "autovoice.onnx_tools.lowering.floating.keep_float32"
    fact = f"{c.name}: e.onnx is quantized already (MatMulInteger), kept as it is"
    assert spec.notes == (f"{fact}: {precision} rewrites nothing",)


def test_in_float32_such_a_file_is_what_it_was(tmp_path: Path) -> None:
    spec = read(tree(quantized_file(tmp_path / "e.onnx")))
    assert spec.notes[-1].endswith("e.onnx is quantized already (MatMulInteger), kept as it is")
    assert spec.components[0].precision.name == "fp32"


def test_an_onnx_files_data_is_what_is_named_or_called_like_it(tmp_path: Path) -> None:
    for name in ("encoder.onnx", "encoder.onnx.data", "encoder.onnx_data", "weights.bin", "other.onnx.data"):
        (tmp_path / name).touch()
    node = {"path": str(tmp_path / "encoder.onnx"), "data": ["weights.bin"]}
    (c,) = read(tree({"model": None, "onnx": node})).components
    assert c.onnx is not None
    assert [f.name for f in c.onnx.data] == ["encoder.onnx.data", "encoder.onnx_data", "weights.bin"]


@pytest.mark.parametrize("value", ["fp16", FP16], ids=["name", "node"])
def test_a_choice_is_a_name_or_a_node(value: Any) -> None:
    precision = read(tree({"precision": value})).components[0].precision
    assert (precision.name, precision.type, precision.keep) == ("fp16", "float16", Keep(("Softmax",)))


def test_every_group_may_be_chosen_by_name_for_all() -> None:
    (c,) = read(tree(precision="fp16", backend="ort", gate="loose")).components
    assert (c.precision.name, c.backend.options, c.gate.end_to_end) == (
        "fp16",
        {"threads": 0},
        {"max_abs": {"fp32": 0.5}},
    )


def test_metrics_without_thresholds_are_no_gates() -> None:
    gate = read(tree(gate={"component": {"snr_db": {}, "cosine": {"fp32": 0.9}}})).components[0].gate
    assert (gate.component, gate.end_to_end) == ({"cosine": {"fp32": 0.9}}, {})


def test_a_components_export_is_laid_over_the_common_one() -> None:
    data = tree({"export": {"simplify": False}}, export={"opset": 20, "simplify": True})
    assert read(data).components[0].export == Export(opset=20, simplify=False)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        pytest.param({"modle": {}}, "component.encoder.modle: unknown key 'modle'\n  did you mean 'model'?", id="key"),
        pytest.param(
            {"model": None},
            "component.encoder: needs a `model:` or an `onnx:`\n"
            "  model: {_target_: package.module.Class}, or onnx: path",
            id="no_model",
        ),
        pytest.param(
            {"onnx": "a.onnx"},
            "component.encoder: has both a `model:` and an `onnx:`\n"
            "  it is made from one of them: '~component.encoder.model', or '~component.encoder.onnx'",
            id="two_models",
        ),
        pytest.param(
            {"model": None, "onnx": "a.onnx", "checkpoint": "a.pth"},
            "component.encoder.checkpoint: an ONNX file has its weights inside\n  remove `checkpoint:`",
            id="weights_twice",
        ),
        pytest.param(
            {"dims": {"frames": {"max": "many"}}},
            "component.encoder.dims.frames.max: must be a whole number, got 'many'\n"
            "  component.encoder.dims.frames.max=1",
            id="narrower_by_a_word",
        ),
        pytest.param(
            {"gate": {"component": {"snr_db": 60}}},
            "component.encoder.gate.component.snr_db: must be a mapping, got 60\n"
            "  component.encoder.gate.component.snr_db='{fp32: 60}'",
            id="metric_without_a_precision",
        ),
        pytest.param(
            {"options": 5},
            "component.encoder.options: must be a mapping, got 5\n"
            "  component.encoder.options='{tensorrt: {option: value}}'",
            id="options",
        ),
        pytest.param(
            {"model": {"channels": 4}}, "component.encoder.model._target_: is required\n  add `_target_:`", id="target"
        ),
        pytest.param(
            {"model": {"_target_": "Encoder"}},
            "component.encoder.model._target_: 'Encoder' is not a dotted path\n  package.module.Class",
            id="undotted",
        ),
        pytest.param(
            {"inputs": "audio"},
            "component.encoder.inputs: must be a list of names or {local: wire}, got 'audio'",
            id="inputs",
        ),
        pytest.param(
            {"inputs": {"x": {"wire": "audio", "shpe": [1]}}},
            "component.encoder.inputs.x.shpe: unknown key 'shpe'\n  did you mean 'shape'?",
            id="input_key",
        ),
        pytest.param({"outputs": {}}, "component.encoder.outputs: declares no output\n  outputs: {name:", id="outputs"),
        pytest.param(
            {"outputs": {"y": {"dtype": "float23", "shape": [1]}}},
            "component.encoder.outputs.y.dtype: unknown dtype 'float23'\n  did you mean 'float32'?",
            id="dtype",
        ),
        pytest.param(
            {"outputs": {"y": {"dtype": "float32"}}},
            "component.encoder.outputs.y.shape: is required\n  add `shape:` (a list)",
            id="shape",
        ),
        pytest.param(
            {"outputs": {"y": {"dtype": "float32", "shape": [1, "2*"]}}},
            "component.encoder.outputs.y.shape[1]: '2*' is not arithmetic over dimensions",
            id="axis",
        ),
        pytest.param(
            {"outputs": {"y": {"dtype": "float32", "shape": [None]}}},
            "component.encoder.outputs.y.shape[0]: 'None' is not arithmetic over dimensions",
            id="null_axis",
        ),
        pytest.param(
            {"export": {"opset": 11}},
            "component.encoder.export.opset: 11 is not supported\n  17 to 23; 18 is what every backend here parses",
            id="opset",
        ),
        pytest.param(
            {"dims": {"frmes": {"max": 3}}},
            "component.encoder.dims.frmes: unknown dim 'frmes'\n  did you mean 'frames'? available: batch, frames",
            id="narrower_dim",
        ),
        pytest.param(
            {"dims": {"frames": {"opt": 3}}},
            "component.encoder.dims.frames.opt: unknown key 'opt'\n  available: max, min",
            id="narrower_point",
        ),
        pytest.param(
            {"precision": "fp17"},
            "component.encoder.precision: unknown precision 'fp17'\n  did you mean 'fp16'? available: fp16, fp32",
            id="precision",
        ),
        pytest.param(
            {"precision": FP32 | {"type": "float23"}},
            "component.encoder.precision.type: unknown compute type 'float23'\n  did you mean 'float32'?",
            id="compute_type",
        ),
        pytest.param(
            {"backend": 5},
            "component.encoder.backend: must be a name or a mapping, got 5\n"
            "  the name of one: component.encoder.backend=…; available: ort",
            id="choice",
        ),
        pytest.param(
            {"gate": {"component": {"snr_db": {"fp32": "high"}}}},
            "component.encoder.gate.component.snr_db.fp32: must be a number, got 'high'",
            id="threshold",
        ),
        pytest.param(
            {"gate": {"component": {"snr": {"fp32": 60}}}},
            "component.encoder.gate.component.snr: unknown key 'snr'\n"
            "  did you mean 'snr_db'? available: cosine, log_mel_l1, lsd_db, max_abs, mcd_db, mr_stft, pooled_cosine, "
            "relative_l2, snr_db",
            id="metric",
        ),
        pytest.param(
            {"calibration": {"name": "none", "samples": 3}},
            "component.encoder.calibration.samples: unknown key 'samples'",
            id="calibration",
        ),
        pytest.param({"seed": True}, "component.encoder.seed: must be a whole number, got True", id="seed"),
    ],
)
def test_faults_of_a_component(change: dict[str, Any], expected: str) -> None:
    assert faults_of(tree(change))[0].startswith(expected)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        pytest.param(
            {"targets": ["mel", "encodr"]},
            [
                "targets: unknown component 'mel'\n  available: encoder",
                "targets: unknown component 'encodr'\n  did you mean 'encoder'? available: encoder",
            ],
            id="targets",
        ),
        pytest.param({"component": {}}, ["component: the pipeline has no component\n"], id="no_component"),
        pytest.param({"component": {"a/b": NODE}}, ["component.a/b: 'a/b' cannot name a file\n"], id="name"),
        pytest.param({"component": {1: NODE}}, ["component.1: '1' cannot name a file\n"], id="number_for_a_name"),
        pytest.param(
            {"pipeline": {"name": "../x"}}, ["pipeline.name: '../x' cannot name a folder\n"], id="pipeline_name"
        ),
        pytest.param(
            {"pipeline": None},
            [
                "pipeline: must be a mapping, got None\n  pipeline: {name: mine}, in its file, whose first line is",
            ],
            id="no_pipeline",
        ),
        pytest.param(
            {"pipeline": {"name": "toy", "inputs": {"x": {"dtype": "bool", "shape": [1], "example": {"gauss": 1}}}}},
            [
                "pipeline.inputs.x.example: got {'gauss': 1}\n"
                "  one of bernoulli, constant, cycle, integers, normal, uniform, as {normal: [mean, std]}"
            ],
            id="example",
        ),
        pytest.param(
            {"export": 5},
            ["export: must be a mapping, got 5"],
            id="export",
        ),
    ],
)
def test_faults_of_the_whole(change: dict[str, Any], expected: list[str]) -> None:
    found = faults_of(tree(**change))
    assert [got[: len(want)] for got, want in zip(found, expected, strict=True)] == expected


def test_a_fault_in_the_node_of_all_components_is_found_once() -> None:
    nodes = {"one": NODE, "two": NODE | {"outputs": {"y": {"dtype": "float32", "shape": [1]}}}}
    found = faults_of(tree(component=nodes, precision=FP32 | {"type": "fp8"}))
    assert [f.partition("\n")[0] for f in found] == ["precision.type: unknown compute type 'fp8'"]


def test_all_faults_at_once_in_the_order_of_the_tree() -> None:
    data = tree(
        {"inputs": 1, "seed": "x"},
        pipeline={"name": "toy", "outptus": []},
        dims={"frames": {"min": 1, "opt": 1, "max": 1, "step": 2}, "batch": {"min": 1, "opt": 1, "max": 1}},
        targets=["nobody"],
    )
    assert [f.partition(":")[0] for f in faults_of(data)] == [
        "pipeline.outptus",
        "dims.frames.step",
        "component.encoder.inputs",
        "component.encoder.seed",
        "targets",
    ]


# -- options that a component asks of a tool for itself ---------------------------------------------


def test_a_component_has_options_of_its_own_over_those_of_all() -> None:
    other = NODE | {"inputs": ["features"], "outputs": {"more": {"dtype": "float32", "shape": ["batch", "frames"]}}}
    data = tree({"options": {"ort": {"threads": 3}}})
    spec = read(data | {"component": {**data["component"], "other": other}})
    assert [c.backend.options for c in spec.components] == [{"threads": 3}, {"threads": 0}]


def test_options_of_another_backend_wait_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    second = {"name": "second", "_target_": "pkg.Second", "types": ["float32"], "options": {"level": 1, "size": 2}}
    monkeypatch.setitem(GROUPS, "backend", {"ort": ORT, "second": second})
    own = {"options": {"second": {"level": 5}}}
    assert read(tree(own)).components[0].backend.options == {"threads": 0}
    on_second = read(tree(own | {"backend": "second"})).components[0]
    assert on_second.backend.options == {"level": 5, "size": 2}
    fallback = read(tree(own, on_mismatch="second")).components[0].fallback
    assert fallback is not None
    assert fallback.options == {"level": 5, "size": 2}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"orr": {}}, "component.encoder.options.orr: unknown backend 'orr'\n  did you mean 'ort'? available: ort"),
        (
            {"ort": {"thread": 1}},
            "component.encoder.options.ort.thread: ort has no option 'thread'\n"
            "  did you mean 'threads'? available: threads",
        ),
        (
            {"ort": 3},
            "component.encoder.options.ort: must be a mapping, got 3\n"
            "  component.encoder.options.ort='{option: value}'",
        ),
        ({"auto": {}}, "component.encoder.options.auto: unknown backend 'auto'\n  available: ort"),
    ],
)
def test_options_that_no_backend_has(options: dict[str, Any], expected: str) -> None:
    assert faults_of(tree({"options": options})) == [expected]
