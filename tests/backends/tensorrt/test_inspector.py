"""The engine inspector's own words, as TensorRT 10.6 gave them on an H200."""

from __future__ import annotations

import json
from typing import Any

import pytest

from autovoice.backends.tensorrt.inspector import Layer, dump, layers_from_json, load, summary, with_times


def io(*formats: str) -> list[dict[str, Any]]:
    return [{"Name": f"t{i}", "Dimensions": [-1, 8, 1, -1], "Format/Datatype": f} for i, f in enumerate(formats)]


CONV = {
    "Name": "node_Conv_3 + node_add_28",
    "LayerType": "CaskConvolution",
    "Inputs": io("Half", "Half"),
    "Outputs": io("Half"),
    "TacticName": "sm90_xmma_fprop_implicit_gemm_f16f16_f16f16_f16_nhwckrsc_nhwc_tilesize64x64x64_cgasize1x2x1",
    "Metadata": "[ONNX Layer: node_Conv_3]\x1e[ONNX Layer: node_add_28]",
}
MERGED = {
    "Name": "node_Conv_178+node_Conv_189",
    "LayerType": "CaskGemmConvolution",
    "Inputs": io("Half"),
    "Outputs": io("Half"),
    "TacticName": "sm90_xmma_gemm",
    "Metadata": "[ONNX Layer: node_Conv_178+node_Conv_189]",
}
KERNEL = {
    "Name": "__myl_CasMulLtSelCas_myl5_1",
    "LayerType": "kgen",
    "Inputs": io("Float", "Int64", "Bool"),
    "Outputs": io("Half"),
    "TacticName": "__myl_CasMulLtSelCas_0x21",
    "Metadata": "[ONNX Layer: node_leaky_relu]\x1f[ONNX Layer: node_div]",
}
SHAPES = {"Name": "__mye31_0_myl0_0", "LayerType": "shape_call", "Inputs": [], "Outputs": [], "Metadata": ""}
NOTHING = {"Name": "mel_unsqueeze", "LayerType": "NoOp", "Inputs": io("Float"), "Outputs": io("Float"), "Metadata": ""}
COPY = {"Name": "Reformatting CopyNode", "LayerType": "Reformat", "Inputs": io("Half"), "Outputs": io("Half")}
HEAVY = ("node_Conv_3", "node_Conv_178", "node_Conv_189")


def layers(*entries: Any) -> list[Layer]:
    return layers_from_json(json.dumps({"Layers": list(entries), "Bindings": []}), HEAVY)


def test_nodes_types_and_tactic_of_a_fused_layer() -> None:
    (conv,) = layers(CONV)
    assert conv.nodes == ("node_Conv_3", "node_add_28")
    assert (conv.reads, conv.writes, conv.type, conv.heavy) == (("float16", "float16"), ("float16",), "float16", True)
    assert conv.tactic.startswith("sm90_xmma_fprop")


def test_joined_names_are_known_by_their_parts() -> None:
    (merged,) = layers(MERGED)
    assert merged.heavy
    assert merged.nodes == ("node_Conv_178+node_Conv_189",)


def test_a_generated_kernel_counts_by_what_it_writes() -> None:
    (kernel,) = layers(KERNEL)
    assert (kernel.heavy, kernel.type, kernel.nodes) == (False, "float16", ("node_leaky_relu", "node_div"))


@pytest.mark.parametrize("entry", [KERNEL, COPY], ids=["generated", "copy"])
def test_what_is_named_after_a_product_and_multiplies_nothing(entry: Any) -> None:
    """A transposition in front of a float16 product may read the int8 values that another one wrote."""
    beside = {**entry, "Inputs": io("Int8"), "Metadata": "[ONNX Layer: node_Conv_3]"}
    assert not layers(beside)[0].heavy
    assert layers({**beside, "LayerType": "gemm"})[0].heavy


def test_a_whole_attention_is_a_generated_kernel_that_multiplies() -> None:
    attention = {**KERNEL, "Name": "_gemm_mha_v2_myl0_17", "TacticName": "_gemm_mha_v2_0x97", "Inputs": io("Half")}
    (found,) = layers({**attention, "Metadata": "[ONNX Layer: node_Conv_3]\x1e[ONNX Layer: node_softmax]"})
    assert (found.heavy, found.type) == (True, "float16")


@pytest.mark.parametrize("entry", [SHAPES, NOTHING, COPY], ids=["shapes", "no operation", "copy"])
def test_what_only_moves_values_computes_in_no_type(entry: Any) -> None:
    assert layers(entry)[0].type is None


@pytest.mark.parametrize(
    ("said", "type_"),
    [
        ("Half", "float16"),
        ("Float", "float32"),
        ("BFloat16", "bfloat16"),
        ("Int8", "int8"),
        ("FP8", "float8"),
        ("Channel major FP16 format where channel % 8 == 0", "float16"),
        ("Thirty-two wide channel vectorized row major Int8 format", "int8"),
        ("Row major linear FP32", "float32"),
    ],
)
def test_every_way_to_name_a_type(said: str, type_: str) -> None:
    assert layers({**CONV, "Inputs": io(said)})[0].type == type_


def test_a_residual_of_a_higher_type_makes_no_other_convolution() -> None:
    assert layers({**CONV, "Inputs": io("Int8", "Float")})[0].type == "int8"


def test_without_detailed_verbosity_there_are_names_alone() -> None:
    (layer,) = layers("node_Conv_3 + node_add_28")
    assert (layer.name, layer.type, layer.heavy) == ("node_Conv_3 + node_add_28", None, False)


def test_shares_of_layers_and_of_time() -> None:
    timed = with_times(layers(CONV, KERNEL, NOTHING), {CONV["Name"]: 0.03, KERNEL["Name"]: 0.01, NOTHING["Name"]: 0.0})
    wide = with_times(layers({**MERGED, "Inputs": io("Float"), "Outputs": io("Float")}), {MERGED["Name"]: 0.04})
    said = summary([*timed, *wide])
    assert said.file == {"float16": 2, "float32": 1}
    assert said.heavy == {"float16": 1, "float32": 1}
    assert said.time == {"float16": 0.5, "float32": 0.5}
    assert said.layers == 4


def test_without_times_there_is_no_share_of_time() -> None:
    assert "time" not in summary(layers(CONV)).as_json()


def test_written_and_read_again() -> None:
    before = with_times(layers(CONV, KERNEL, SHAPES), {CONV["Name"]: 0.03})
    assert load(dump(before)) == before
