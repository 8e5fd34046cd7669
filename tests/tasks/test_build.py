"""What a build says of a component that its tool quantized by itself."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from autovoice.spec import Implicit
from autovoice.tasks.build import _delivered, _notes
from tests.builders import INT8, quantized


def result(**delivered: Any) -> dict[str, Any]:
    return {"delivered": {"file": {}, "told_by": "inspector", **delivered}}


def notes(prefer_int8: bool, **delivered: Any) -> list[str]:
    precision = replace(INT8, name="int8_entropy", implicit=Implicit(prefer_int8=prefer_int8))
    records = {"a.build": SimpleNamespace(result=result(**delivered)), "a.export": SimpleNamespace(result={})}
    return list(_notes(quantized("a", precision=precision), SimpleNamespace(records=records)))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("delivered", "told"),
    [
        ({"heavy": {"int8": 72, "float16": 6}, "quantized_by": "builder"}, "int8 72/78 Conv/MatMul"),
        ({"heavy": {"float16": 78}, "quantized_by": "builder"}, "int8 0/78 Conv/MatMul"),
        ({"heavy": {"float32": 3}}, "nothing of its 3 Conv/MatMul to quantize"),
        ({"heavy": {}, "quantized_by": "builder"}, "nothing to quantize"),
        ({"heavy": {}}, "nothing to quantize"),
    ],
)
def test_how_much_is_int8(delivered: dict[str, Any], told: str) -> None:
    assert _delivered(quantized("a"), result(**delivered)) == told


@pytest.mark.parametrize(
    ("prefer_int8", "fix"),
    [(False, "precision.implicit.prefer_int8=true asks for it"), (True, "precision=int8 writes explicit pairs")],
)
def test_a_builder_that_chose_none_of_it_is_noted_with_what_asks_for_more(prefer_int8: bool, fix: str) -> None:
    (note,) = notes(prefer_int8, heavy={"float16": 78}, quantized_by="builder")
    assert note == f" note: a: the builder put none of 78 Conv/MatMul in int8; {fix}"
    assert notes(prefer_int8, heavy={"int8": 1, "float16": 77}, quantized_by="builder") == []
    assert notes(prefer_int8, heavy={}, quantized_by="builder") == []
