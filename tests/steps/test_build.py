from __future__ import annotations

from typing import Any

import onnx
import pytest

from autovoice.backends.build import Delivered
from autovoice.errors import PrecisionError
from autovoice.steps.build import _check_built
from tests.steps.bench import FP32, INT8, POLICY, Bench


def test_an_engine_tells_what_it_holds(bench: Bench) -> None:
    bench.exported("encoder")
    ran = bench.built("encoder")
    assert (ran.result["engine"], ran.result["beside"]) == ("engine.onnx", [])
    assert ran.result["size"] == (ran.folder / "engine.onnx").stat().st_size
    assert ran.result["delivered"]["heavy"] == ran.result["delivered"]["executed"] == {"float32": 2}


def test_integers_are_what_is_executed(bench: Bench) -> None:
    bench.ranged()
    ran = bench.built("encoder", "int8")
    assert ran.result["delivered"]["heavy"] == ran.result["delivered"]["executed"] == {"int8": 2}


def test_passes_come_between_lowering_and_engine(bench: Bench) -> None:
    bench.exported("encoder")
    bench.run("lower", FP32, {"export": "encoder.export"})
    bench.run("passes", {"passes": []}, {"lower": "lower"})
    path = bench.ran["passes"].folder / "model.onnx"
    changed = onnx.load(path)
    changed.doc_string = "of the passes"
    onnx.save(changed, path)
    ran = bench.run("build", FP32, {"lower": "lower", "passes": "passes"})
    assert onnx.load(ran.folder / "engine.onnx").doc_string == "of the passes"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            FP32 | {"precision": {"name": "fp16", "type": "float16", "scope": "all"}},
            r"asked float16, but 2 of 2 heavy nodes are not: n_a \(MatMul\) is float32",
        ),
        (INT8, r"asked int8, but 2 of 2 nodes are not: n_a is float32"),
    ],
    ids=["float16", "int8"],
)
def test_a_graph_that_is_not_in_what_was_asked(bench: Bench, fields: dict[str, Any], message: str) -> None:
    bench.exported("encoder")
    bench.run("lower", FP32, {"export": "encoder.export"})
    with pytest.raises(PrecisionError, match=message):
        bench.run("build", fields, {"lower": "lower", "export": "encoder.export"})


def test_a_node_that_the_policy_leaves_out_may_not_be_quantized(bench: Bench) -> None:
    bench.ranged()
    bench.run("lower", INT8, {"export": "encoder.export", "ranges": "encoder.ranges"})
    fields = INT8 | {"quantize": POLICY | {"exclude": ["w2"]}}
    with pytest.raises(PrecisionError, match=r"n_y computes in int8, which the policy leaves out"):
        bench.run("build", fields, {"lower": "lower", "export": "encoder.export"})


@pytest.mark.parametrize(
    ("delivered", "message"),
    [
        ({"file": {"float32": 2}}, "asked int8, and the engine computes nothing in it"),
        (
            {"file": {"int8": 2}, "executed": {"float32": 2}},
            "asked int8, and none of the engine's 2 int8 nodes is executed so",
        ),
    ],
    ids=["not_in_the_file", "not_executed"],
)
def test_an_engine_that_lost_its_precision(delivered: dict[str, Any], message: str) -> None:
    with pytest.raises(PrecisionError, match=message):
        _check_built("int8", {"int8": 2}, Delivered(**delivered), quantized=True)
