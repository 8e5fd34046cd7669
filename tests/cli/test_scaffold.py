"""From somebody's network to a verified engine in two commands."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.conftest import Project


@pytest.fixture
def project(toy: Project) -> Project:
    """The toy project, with a file of its own: token ids into a table, then frames of two tokens."""
    table = np.random.default_rng(0).normal(size=(30, 8)).astype(np.float32)
    kernel = np.random.default_rng(1).normal(size=(4, 8, 2)).astype(np.float32)
    nodes = [
        helper.make_node("Gather", ["table", "token:ids"], ["rows"]),
        helper.make_node("Transpose", ["rows"], ["turned"], perm=[0, 2, 1]),
        helper.make_node("Conv", ["turned", "kernel"], ["frames/out"], strides=[2]),
    ]
    ids = helper.make_tensor_value_info("token:ids", TensorProto.INT64, ["N", None])
    out = helper.make_tensor_value_info("frames/out", TensorProto.FLOAT, ["N", 4, None])
    weights = [numpy_helper.from_array(table, "table"), numpy_helper.from_array(kernel, "kernel")]
    graph = helper.make_graph(nodes, "net", [ids], [out], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.save(model, toy.root / "odd-net.onnx")
    return toy


def written(project: Project, name: str) -> str:
    return (project.root / "mine" / name).read_text()


def test_an_onnx_file(project: Project) -> None:
    out = project.ok("task=scaffold", "onnx=odd-net.onnx", "output=mine")
    assert " out  frames/out  float32  [N, 4, token_ids_1 // 2]" in out
    assert "build it:    autovoice --config-dir mine pipeline=odd_net\n" in out
    pipeline, component = written(project, "pipeline/odd_net.yaml"), written(project, "component/odd_net/default.yaml")
    assert "token_ids: {dtype: int64, shape: [N, token_ids_1], example: {integers: [0, 29]}}" in pipeline
    assert 'inputs: {"token:ids": token_ids}\n' in component
    assert "  frames_out: {onnx_name: frames/out, dtype: float32, shape: [N, 4, token_ids_1 // 2]}\n" in component
    built = replace(project, given=("--config-dir", "mine")).ok("pipeline=odd_net")
    assert " odd_net     fp32   fp32 " in built


def test_what_is_there_already_stays(project: Project) -> None:
    project.ok("task=scaffold", "onnx=odd-net.onnx", "output=mine")
    (project.root / "mine/pipeline/odd_net.yaml").write_text("# edited\n")
    err = project.fails("task=scaffold", "onnx=odd-net.onnx", "output=mine")
    assert "mine/pipeline/odd_net.yaml exists already\n  overwrite=true" in err
    assert written(project, "pipeline/odd_net.yaml") == "# edited\n"


def test_a_module_and_the_shapes_of_its_inputs(toy: Project) -> None:
    model = "model={_target_: autovoice.models.mel_projection.MelProjection, channels: 8, hidden: 16, mel_channels: 4}"
    out = toy.ok("task=scaffold", model, "shapes={latent_input: [batch, 8, frames]}", "output=mine", "name=mel")
    assert re.search(r" out +output +float32 +\[batch, 4, frames\]", out)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["output=mine"], "onnx: task=scaffold describes one ONNX file or one module\n  onnx=model.onnx, or model="),
        (["onnx=odd-net.onnx"], "output: task=scaffold needs a folder to write to\n  output=my/conf"),
        (["onnx=gone.onnx", "output=mine"], "onnx: gone.onnx: is no file\n  onnx=/path/to/model.onnx"),
        (["onnx=conf/pipeline/toy.yaml", "output=mine"], "onnx: conf/pipeline/toy.yaml"),
        (["model=os.system", "output=mine"], "shapes: a module needs the shapes of its inputs\n  shapes='{mel:"),
        (["onnx=odd-net.onnx", "output=mine", "sizes={N: two}"], "sizes: {'N': 'two'}: sizes are whole numbers"),
    ],
    ids=["nothing", "no_folder", "no_file", "no_onnx", "no_shapes", "no_number"],
)
def test_what_is_refused_leaves_nothing(project: Project, overrides: list[str], message: str) -> None:
    assert message in project.fails("task=scaffold", *overrides)
    assert not Path(project.root / "mine").exists()
