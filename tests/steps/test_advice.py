"""What is advised where a gate is missed, by what the engine computes in."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from autovoice.plan.rules.component import about
from autovoice.spec import OnnxFile
from autovoice.steps.advice import component_advice, end_to_end_advice
from tests.builders import FP16, FP32, ORT, component, quantized

REPORT: dict[str, dict[str, dict[str, Any]]] = {
    "min": {"y": {"snr_db": 12.3456, "max_abs": 0.012345}},
    "opt": {"y": {"snr_db": 70.0, "max_abs": 0.0}},
}
ALL = {"min": REPORT["min"]}


def advice(c: Any, report: Any = REPORT, metric: str = "snr_db", threshold: float = 60) -> str:
    return component_advice(about(c))(report, metric, threshold)


def test_float32_is_never_told_to_be_more_precise() -> None:
    told = advice(component("a", precision=FP32))
    assert told == (
        "in float32 the engine computes something else at min, not at opt: a size that the graph has as a constant "
        "(int(), range() or a table in forward()); or gate.component.snr_db.fp32=12.3"
    )
    assert "precision" not in told.replace("float32", "")


def test_float32_that_is_wrong_everywhere() -> None:
    told = advice(component("a", precision=FP32), ALL)
    assert told.startswith("in float32 the engine computes something else at every size")
    assert "++component.<name>.export.simplify=false" in told
    assert "precision" not in told


def test_float16_keeps_what_is_sensitive() -> None:
    told = advice(component("a", precision=FP16))
    assert "++component.<name>.keep.op_types=[LayerNormalization,Softmax]" in told
    assert "component.<name>.precision=fp32" in told
    assert told.endswith("; or gate.component.snr_db.fp16=12.3")


def test_float16_of_a_module_keeps_inputs_which_are_all_it_can_keep() -> None:
    c = component("a", ["x", "mask"], precision=FP16, backend=replace(ORT, from_module=True))
    assert advice(c).startswith("++component.<name>.keep.inputs=[x,mask] keeps what is sensitive in float32")


def test_int8_looks_at_samples_first() -> None:
    told = advice(quantized("a"))
    assert told.index("samples") < told.index("task=search targets=[<name>]") < told.index("precision=fp32")
    assert "keep" not in told


def test_a_file_that_is_quantized_already() -> None:
    c = quantized("a", model=None, onnx=OnnxFile(Path("a.onnx"), (), ("MatMulInteger",))).in_file_precision()
    told = advice(c)
    assert told.startswith("the file is quantized already")
    assert told.endswith("gate.component.snr_db.int8=12.3")
    assert "precision" not in told


@pytest.mark.parametrize(("metric", "expected"), [("snr_db", "12.3"), ("max_abs", "0.0124")])
def test_a_threshold_that_would_just_be_met(metric: str, expected: str) -> None:
    assert advice(component("a"), metric=metric, threshold=0.001).endswith(f".{metric}.fp32={expected}")


def test_end_to_end_in_float32() -> None:
    told = end_to_end_advice({"a": about(component("a"))})(REPORT, "snr_db", 60)
    assert "precision" not in told
    assert told.endswith("or gate.end_to_end.snr_db.fp32=12.3")


def test_end_to_end_names_what_computes_in_less() -> None:
    every = {c.name: about(c) for c in (component("a"), quantized("b"), component("c", precision=FP16))}
    told = end_to_end_advice(every)(REPORT, "snr_db", 60)
    assert told.startswith("errors of b, c add up: component.b.precision=fp32 or component.c.precision=fp32; or ")
    assert "component.a" not in told
