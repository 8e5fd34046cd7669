from __future__ import annotations

import re
from typing import Any

import onnx
import pytest

from autovoice.errors import LoweringError
from tests.onnx_models import keep
from tests.steps.bench import FP32, INT8, POLICY, Bench

NEEDS = {"export": "encoder.export", "ranges": "encoder.ranges"}


def scale(bench: Bench, tensor: str) -> float:
    graph = onnx.load(bench.ran["lower"].folder / "model.onnx").graph
    return float(next(t for t in graph.initializer if t.name == f"{tensor}_scale").float_data[0])


def test_float32_stays_as_it_is(bench: Bench) -> None:
    bench.exported("encoder")
    bench.run("lower", FP32, {"export": "encoder.export"})
    names = [n.name for n in onnx.load(bench.ran["lower"].folder / "model.onnx").graph.node]
    assert names == [n.name for n in onnx.load(bench.ran["encoder.export"].folder / "model.onnx").graph.node]


def test_the_policys_nodes_are_quantized_on_the_ranges_of_their_step(bench: Bench) -> None:
    bench.ranged()
    bench.run("lower", INT8, NEEDS)
    low, high = bench.ran["encoder.ranges"].json("ranges.json")["ranges"]["x"]
    assert scale(bench, "x") == pytest.approx((high - low) / 255, rel=1e-3)


def test_a_policy_without_operators_needs_no_ranges(bench: Bench) -> None:
    bench.exported("encoder")
    bench.run("lower", INT8 | {"quantize": POLICY | {"op_types": []}}, {"export": "encoder.export"})
    graph = onnx.load(bench.ran["lower"].folder / "model.onnx").graph
    assert [n.op_type for n in graph.node] == ["MatMul", "Tanh", "MatMul"]


@pytest.mark.parametrize(
    ("fields", "fact", "fix"),
    [
        (
            {"quantize": POLICY | {"include": ["w3"]}},
            "quantize.include: 'w3' matches no node and no weight",
            "available: n_a, n_y, w1, w2",
        ),
        (
            {"quantize": POLICY | {"exclude": ["*"]}},
            "the policy chooses none of 2 nodes to quantize",
            "it has MatMul; ++component.<name>.quantize.op_types=[] leaves it as it is, on purpose",
        ),
        (
            {"lowering": {"target": "autovoice.onnx_tools.lowering.floating.to_float17", "kwargs": {}}},
            "precision.lowering: autovoice.onnx_tools.lowering.floating has no 'to_float17'",
            "`_target_` names a lowering function",
        ),
        (
            {"lowering": FP32["lowering"]},
            "precision.lowering: autovoice.onnx_tools.lowering.floating.keep_float32: got an unexpected keyword",
            "it is given quantize, ranges; f(source, target, keep, …, **kwargs of precision.lowering)",
        ),
        ({"own_keep": keep(nodes=["n_absent"])}, "keep.nodes", ""),
    ],
    ids=["pattern", "nothing_left", "no_function", "arguments", "keep"],
)
def test_what_means_nothing(bench: Bench, fields: dict[str, Any], fact: str, fix: str) -> None:
    bench.ranged()
    with pytest.raises(LoweringError, match=f"{re.escape(fact)}.*\n  {re.escape(fix)}"):
        bench.run("lower", INT8 | fields, NEEDS)
