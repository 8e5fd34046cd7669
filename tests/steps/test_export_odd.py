"""Modules that exporters annotate wrongly, whose inputs they rename or drop, and that return odd containers."""

from __future__ import annotations

import logging
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from autovoice.errors import ExportError
from autovoice.steps.context import Context
from autovoice.steps.export import name_inputs, run
from tests.onnx_models import INT64, model, node, value

X = {"dtype": "float32", "shape": ["n", "t", 8]}
LENGTHS = {"dtype": "int64", "shape": ["n"]}


class Recurrent(nn.Module):
    """Its exporter annotates the output by the length of tracing; the graph is right at any."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(8, 6, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.rnn(x)[0]


class Frozen(nn.Module):
    """Adds a position to each of 5 frames, the length of tracing."""

    def forward(self, x: Tensor) -> Tensor:
        return x[..., :6] + torch.arange(5.0)[:, None]


class Odd(nn.Module):
    """Reads one input, returns another as it came and a third not at all, in containers of its own."""

    @dataclass
    class Out:
        double: Tensor
        rest: tuple[Tensor, dict[str, Tensor]]
        nothing: Tensor | None = None

    def forward(self, x: Tensor, lengths: Tensor, sid: Tensor) -> Odd.Out:
        return self.Out(x.double().cumsum(1), (lengths, {"sign": (x > 0).to(torch.uint8)}))


def exported(
    made: type[nn.Module], inputs: Any, outputs: Any, folder: Path, patch: pytest.MonkeyPatch
) -> onnx.ModelProto:
    package = ModuleType("odd")
    package.made = made  # type: ignore[attr-defined]
    patch.setitem(sys.modules, "odd", package)
    patch.setattr(logging.getLogger("torch.onnx"), "disabled", True)
    fields = {
        "model": {"target": "odd.made", "kwargs": {}},
        "seed": 0,
        "checkpoint": None,
        "inputs": inputs,
        "outputs": outputs,
        "output_order": list(outputs),
        "trace": {"n": 3, "t": 5},
        "formulas": {},
        "export": {"opset": 18, "simplify": True},
    }
    run(Context(fields, {}, {}, folder))
    return onnx.load(folder / "model.onnx")


def test_a_recurrent_layer_keeps_its_time_axis(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = exported(Recurrent, {"x": X}, {"y": {"dtype": "float32", "shape": ["n", "t", 6]}}, tmp_path, monkeypatch)
    assert [d.dim_param or d.dim_value for d in made.graph.output[0].type.tensor_type.shape.dim] == ["n", "t", 6]


def test_an_axis_that_is_really_frozen_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ExportError, match=r"fixed at 5, declared dynamic|it fixes an axis that is declared dynamic"):
        exported(Frozen, {"x": X}, {"y": {"dtype": "float32", "shape": ["n", "t", 6]}}, tmp_path, monkeypatch)


def test_inputs_that_come_back_or_that_nothing_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outputs = {
        "double": {"dtype": "float64", "shape": ["n", "t", 8]},
        "back": LENGTHS,
        "sign": {"dtype": "uint8", "shape": ["n", "t", 8]},
    }
    made = exported(Odd, {"x": X, "lengths": LENGTHS, "sid": LENGTHS}, outputs, tmp_path, monkeypatch)
    assert [v.name for v in made.graph.input] == ["x", "lengths", "sid"]
    x, lengths = np.random.default_rng(0).normal(size=(2, 5, 8)).astype(np.float32), np.array([5, 3])
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    double, back, sign = session.run(list(outputs), {"x": x, "lengths": lengths, "sid": np.zeros(2, np.int64)})
    np.testing.assert_allclose(double, x.astype(np.float64).cumsum(1))
    np.testing.assert_array_equal(back, lengths)
    np.testing.assert_array_equal(sign, x > 0)


def test_an_output_called_like_the_input_that_it_is() -> None:
    nodes = [node("Identity", "lengths_orig", "lengths"), node("Neg", "x_orig", "y")]
    inputs = [value("x_orig", 2), value("lengths_orig", 2, dtype=INT64)]
    made = model(nodes, inputs, [value("lengths", 2, dtype=INT64), value("y", 2)])
    name_inputs(made, ["x", "lengths"])
    onnx.checker.check_model(made)
    assert [v.name for v in made.graph.input] == ["x", "lengths"]
    assert [n.op_type for n in made.graph.node] == ["Neg"]
