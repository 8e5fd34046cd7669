"""What implicit quantization may not touch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from autovoice.backends.tensorrt.calibration_policy import float_nodes
from autovoice.errors import BuildError
from tests.backends.tensorrt.calibrating import (
    IMPLICIT,
    KEEP,
    POLICY,
    Build,
    small_model,
    two_lines,
)


def test_what_the_policy_leaves_out_and_what_is_delicate_is_held_higher(build: Build) -> None:
    build.calibrate()
    assert build.layers() == {"up": "HALF", "add": "HALF", "exp": "HALF", "softmax": "HALF"}


@pytest.mark.parametrize(
    ("policy", "held"),
    [
        ({"exclude": ["last.*"]}, {"up", "conv_z"}),
        ({"include": ["conv_a*"]}, {"up", "conv_z"}),
        ({"first": False}, {"up", "conv_a+conv_b"}),
        ({"op_types": ["Conv", "ConvTranspose"], "last": False}, {"conv_z"}),
        ({"nodes": ["conv_z"]}, {"up", "conv_a+conv_b"}),
    ],
    ids=["exclude", "include", "first", "last", "names"],
)
def test_policies(build: Build, policy: dict[str, Any], held: set[str]) -> None:
    build.change(quantize=POLICY | policy).calibrate()
    assert build.layers().keys() == held | {"add", "exp", "softmax"}


def test_what_is_kept_is_held_in_float32(build: Build) -> None:
    build.change(keep=KEEP | {"nodes": ["conv_z", "shape"], "op_types": ["Add"]}).calibrate()
    types = {"up": "HALF", "exp": "HALF", "softmax": "HALF", "add": "FLOAT", "conv_z": "FLOAT"}
    assert build.layers() == types  # a shape computes no floats


@pytest.mark.parametrize("kept", [[], ["conv_z"]])
def test_int8_is_preferred_for_the_convolutions_that_the_policy_chooses(build: Build, kept: list[str]) -> None:
    build.change(implicit=IMPLICIT | {"prefer_int8": True}, keep=KEEP | {"nodes": kept}).calibrate()
    types = {x.name: x.precision.name for x in build.network.layers if x.precision_is_set}
    last = "FLOAT" if kept else "INT8"
    assert types == {
        "up": "HALF",
        "add": "HALF",
        "exp": "HALF",
        "softmax": "HALF",
        "conv_a+conv_b": "INT8",
        "conv_z": last,
    }
    assert all(x.output_types == {} for x in build.network.layers if x.precision.name == "INT8")  # the builder's
    flags = build.trt.BuilderFlag
    for config in (build.config, *(config for _, config in build.trt.built)):
        assert config._flags - {flags.TF32} == {flags.INT8, flags.FP16, flags.PREFER_PRECISION_CONSTRAINTS}


def test_without_a_convolution_to_prefer_what_is_held_is_an_obligation(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "autovoice.backends.tensorrt.calibrators.float_nodes", lambda *_: ({"up": "float16"}, {"up"}, {"exp"})
    )
    build.change(implicit=IMPLICIT | {"prefer_int8": True}).calibrate()
    assert build.layers() == {"up": "HALF"}  # a product that is no convolution is left to the builder
    assert build.config.get_flag(build.trt.BuilderFlag.OBEY_PRECISION_CONSTRAINTS)
    assert not build.config.get_flag(build.trt.BuilderFlag.PREFER_PRECISION_CONSTRAINTS)


def test_nothing_held_needs_no_obligation(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autovoice.backends.tensorrt.calibrators.float_nodes", lambda *_: ({}, set(), set()))
    build.calibrate()
    assert not build.config.get_flag(build.trt.BuilderFlag.OBEY_PRECISION_CONSTRAINTS)


def test_a_merged_convolution_is_quantized_if_all_its_parts_may_be(tmp_path: Path) -> None:
    model = small_model(tmp_path / "model.onnx")
    graph = onnx.load(model)
    parts = [helper.make_node("Conv", ["mel", "first.weight"], [n], f"conv_{n}") for n in "ab"]
    graph.graph.node[0].CopyFrom(parts[0])
    graph.graph.node.insert(1, parts[1])
    graph.graph.node[2].input[0] = "b"
    graph.graph.node[2].output[0] = "b2"
    graph.graph.node[3].input[0] = "b2"
    named = tmp_path / "named.onnx"
    onnx.save(graph, named)
    assert float_nodes(model, named, POLICY, KEEP, True)[1] == {"up"}
    assert float_nodes(model, named, POLICY | {"exclude": ["conv_b"]}, KEEP, True)[1] == {"up", "conv_a+conv_b"}
    held, _, _ = float_nodes(model, named, POLICY, KEEP | {"nodes": ["conv_b"]}, True)
    assert held["conv_a+conv_b"] == "float32"
    assert float_nodes(model, named, POLICY, KEEP, True)[2] == {"conv_a+conv_b", "conv_z"}
    assert float_nodes(model, named, POLICY | {"exclude": ["conv_b"]}, KEEP, True)[2] == {"conv_z"}


def test_a_sum_of_tensors_is_held_and_a_bias_is_not(tmp_path: Path) -> None:
    model = small_model(tmp_path / "model.onnx")
    assert "add" in float_nodes(model, model, POLICY, KEEP, True)[0]
    graph = onnx.load(model)
    graph.graph.initializer.append(numpy_helper.from_array(np.ones((1, 4, 1), np.float32), "bias"))
    graph.graph.node[4].input[1] = "bias"
    onnx.save(graph, model)
    assert "add" not in float_nodes(model, model, POLICY, KEEP, True)[0]


def test_layers_are_known_by_their_metadata_and_by_name(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    parsed = build.trt.OnnxParser.parse

    def renamed(self: Any, *args: Any) -> Any:
        done = parsed(self, *args)
        for i, layer in enumerate(self._network.layers):
            if layer.name == "up":
                layer.name = f"(Unnamed Layer* {i}) [Deconvolution]"
            else:
                layer.metadata = ""
        return done

    monkeypatch.setattr(build.trt.OnnxParser, "parse", renamed)
    build.calibrate()
    assert build.layers().keys() == {"(Unnamed Layer* 2) [Deconvolution]", "add", "exp", "softmax"}


def test_a_product_that_cannot_be_held_is_named(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autovoice.backends.tensorrt.calibration_policy.nodes_of", lambda layer: ())
    with pytest.raises(BuildError, match="no layer of node 'up', which the policy keeps out of int8") as error:
        build.calibrate()
    two_lines(error)
