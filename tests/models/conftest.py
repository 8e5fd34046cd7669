"""What the tests of all reference components share: a seed, and the export with its parity."""

import logging
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim

# Operators whose output length or path depends on data, and those that backends refuse or compute badly.
FORBIDDEN = {"NonZero", "STFT", "DFT", "If", "Loop", "Scan", "Resize", "InstanceNormalization", "Unique"}
DIMS = {
    "batch": Dim("batch", min=1, max=64),
    "frames": Dim("frames", min=2, max=65536),
    "samples": Dim("samples", min=400, max=2**22),
    "content_frames": Dim("content_frames", min=1, max=16384),
}
Feeds = dict[str, Tensor]


@pytest.fixture(autouse=True)
def seeded() -> Iterator[None]:
    torch.manual_seed(0)
    with torch.no_grad():
        yield


@pytest.fixture
def check_export(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """check_export(module, feeds, axes, output, sizes): export at feeds(2, 30), compare at every size."""
    monkeypatch.setattr(logging.getLogger("torch.onnx"), "disabled", True)

    def check(
        module: nn.Module,
        feeds: Callable[[int, int], Feeds],
        axes: dict[str, dict[int, str]],
        output: str,
        sizes: Sequence[tuple[int, int]] = ((1, 2), (3, 77)),
        allowed: frozenset[str] = frozenset(),
    ) -> None:
        module.eval()
        example = feeds(2, 30)
        program = torch.onnx.export(
            module,
            tuple(example.values()),
            input_names=list(example),
            output_names=[output],
            dynamic_shapes={name: {axis: DIMS[dim] for axis, dim in axes[name].items()} for name in example},
            dynamo=True,
            opset_version=18,
            verbose=False,
        )
        graph = program.model_proto.graph
        assert not {node.op_type for node in graph.node} & (FORBIDDEN - allowed)
        assert [value.name for value in graph.input] == list(example)
        for value in graph.input:
            named = {i: d.dim_param for i, d in enumerate(value.type.tensor_type.shape.dim) if d.dim_param}
            assert named == axes[value.name]
        session = onnxruntime.InferenceSession(program.model_proto.SerializeToString())
        for size in sizes:
            inputs = feeds(*size)
            expected = module(*inputs.values()).numpy()
            (got,) = session.run([output], {name: value.numpy() for name, value in inputs.items()})
            assert got.shape == expected.shape
            assert np.abs(got - expected).max() <= 1e-4

    return check


@pytest.fixture
def parameters() -> Callable[[nn.Module], int]:
    return lambda module: sum(parameter.numel() for parameter in module.parameters())
