"""The reference flow and vocoder, small, as exported and lowered: what is left of them, and that TensorRT builds it."""

from __future__ import annotations

import logging
from collections import Counter

import onnx
import onnxslim
import pytest
import torch
from torch.export import Dim

from autovoice.models.flow_decoder import FlowDecoder
from autovoice.models.vocoder import HifiganVocoder
from autovoice.onnx_tools.lowering.explicit import with_qdq
from autovoice.onnx_tools.lowering.floating import halved
from autovoice.onnx_tools.passes import PASSES
from tests.onnx_tools.passes.checks import copied, names, ops, rewritten
from tests.rtx import built

SIZES = ({"batch": 1, "frames": 16}, {"batch": 2, "frames": 33})
LAYERS, COUPLINGS = 3, 4


def exported(module: torch.nn.Module, inputs: dict[str, int]) -> onnx.ModelProto:
    """As autovoice exports it, with biases that are not zero."""
    logging.getLogger("torch.onnx").disabled = True
    torch.manual_seed(0)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if name.endswith("bias"):
                parameter.normal_(std=0.3)
    axes = {0: Dim("batch", min=1, max=64), 2: Dim("frames", min=2, max=4096)}
    program = torch.onnx.export(
        module.eval(),
        tuple(torch.randn(2, channels, 30) for channels in inputs.values()),
        input_names=list(inputs),
        output_names=["y"],
        dynamic_shapes=dict.fromkeys(inputs, axes),
        dynamo=True,
        opset_version=18,
        verbose=False,
    )
    made = onnxslim.slim(program.model_proto)
    del made.graph.value_info[:]
    return made


@pytest.fixture(scope="module")
def flow() -> onnx.ModelProto:
    module = FlowDecoder(channels=8, hidden=8, n_layers=LAYERS, n_flows=COUPLINGS, conditioning=12)
    return exported(module, {"latent_input": 8, "mask": 1, "conditioning": 12})


@pytest.fixture(scope="module")
def vocoder() -> onnx.ModelProto:
    module = HifiganVocoder(
        upsample_rates=(4, 2),
        upsample_kernel_sizes=(8, 4),
        upsample_initial_channel=16,
        resblock_kernel_sizes=(3, 5),
        resblock_dilation_sizes=((1, 3), (1, 3)),
        mel_channels=6,
    )
    return exported(module, {"mel_input": 6})


def lowered(made: onnx.ModelProto, how: str) -> onnx.ModelProto:
    heavy = [n.name for n in made.graph.node if n.op_type == "Conv"]
    ranges = {t: (-8.0, 8.0) for n in made.graph.node for t in n.input}
    if how == "float32":
        return copied(made)
    if how == "float16":
        return halved(copied(made), [])
    dtype, around = how.split()
    return with_qdq(copied(made), heavy, ranges, dtype, around)


#: how far rewriting may move results; in few bits, one that is rounded the other way moves what comes after it
HOW = {"float32": 2e-6, "float16": 5e-3, "int8 float32": 0.1, "int8 float16": 0.1, "float8 float16": 0.2}


def test_the_flow(flow: onnx.ModelProto) -> None:
    made = rewritten(flow, list(PASSES), within=2e-6, sizes=SIZES)
    before, after = ops(flow), ops(made)
    assert after["Slice"] == 0
    assert after["Unsqueeze"] == 3
    assert after["Squeeze"] == 1
    assert after["Concat"] == 1  # the output's halves
    # one conditioning convolution for all couplings, and none behind the skips
    assert after["Conv"] == before["Conv"] - (COUPLINGS - 1) - COUPLINGS
    # a split for each gate and each residual, the input's halves, the conditions
    assert after["Split"] == COUPLINGS * (2 * LAYERS - 1) + 2


def test_the_vocoder(vocoder: onnx.ModelProto) -> None:
    made = rewritten(vocoder, list(PASSES), within=1e-6, sizes=SIZES)
    assert ops(made) == ops(vocoder) + Counter(Unsqueeze=1, Squeeze=1)
    for op in ("Conv", "ConvTranspose"):
        assert names(made, op) == names(vocoder, op)


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("which", ["flow", "vocoder"])
def test_lowered(which: str, how: str, request: pytest.FixtureRequest) -> None:
    before = lowered(request.getfixturevalue(which), how)
    made = rewritten(before, list(PASSES), within=HOW[how], sizes=SIZES)
    assert ops(made)["Slice"] == 0
    assert ops(made)["Squeeze"] == 1
    weights = {t.name: len(t.dims) for t in made.graph.initializer}
    assert not [n.name for n in made.graph.node if n.op_type == "Conv" and weights.get(n.input[1]) == 3]


@pytest.mark.parametrize("name", PASSES)
@pytest.mark.parametrize("which", ["flow", "vocoder"])
def test_each_alone(which: str, name: str, request: pytest.FixtureRequest) -> None:
    rewritten(request.getfixturevalue(which), name, within=2e-6, sizes=SIZES)


@pytest.mark.parametrize("reverse", [False, True])
def test_in_any_order(flow: onnx.ModelProto, reverse: bool) -> None:
    order = sorted(PASSES, reverse=reverse)
    made = rewritten(flow, [*order, *order], within=2e-6, sizes=SIZES)
    assert ops(made)["Slice"] == 0


@pytest.mark.tensorrt
@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("which", ["flow", "vocoder"])
def test_tensorrt_builds_it(which: str, how: str, request: pytest.FixtureRequest) -> None:
    made = rewritten(lowered(request.getfixturevalue(which), how), list(PASSES), within=HOW[how], sizes=SIZES[:1])
    engine, said = built(made)
    assert engine is not None, said
    assert {line for line in said if "scales to fp32" not in line} == set()
