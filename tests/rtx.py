"""Graphs given to the real TensorRT-RTX builder, which needs no GPU."""

from __future__ import annotations

from typing import Any

import onnx
import pytest

#: the sizes that stand for an axis without one: min, opt and max
SIZES = (16, 64, 256)


def built(made: onnx.ModelProto, target: str = "SM89") -> tuple[Any, list[str]]:
    """An engine for a compute capability, or None, and what was logged from warnings up.

    The first axis is a batch of one wherever it has no size.
    """
    trt = pytest.importorskip("tensorrt_rtx_bindings")
    said: list[str] = []

    class Logger(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, text: str) -> None:
            if severity <= trt.ILogger.Severity.WARNING:
                said.append(text)

    logger = Logger()
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(made.SerializeToString()):
        return None, [parser.get_error(i).desc() for i in range(parser.num_errors)]
    profile, config = builder.create_optimization_profile(), builder.create_builder_config()
    borders = [network.get_input(i) for i in range(network.num_inputs)]
    for tensor in borders:
        shapes = [[n if d == -1 else d for d in tensor.shape] for n in SIZES]
        profile.set_shape(tensor.name, *[(1 if tensor.shape[0] == -1 else s[0], *s[1:]) for s in shapes])
    borders += [network.get_output(i) for i in range(network.num_outputs)]
    assert {t.dtype for t in borders} == {trt.float32}
    assert config.add_optimization_profile(profile) >= 0
    config.num_compute_capabilities = 1
    config.set_compute_capability(getattr(trt.ComputeCapability, target), 0)
    return builder.build_serialized_network(network, config), said
