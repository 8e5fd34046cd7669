"""What the table and its notes say of a component that its tool quantized by itself."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from autovoice.publish.account import ComponentAccount, EngineAccount
from autovoice.publish.notes import component_notes
from autovoice.publish.summary import delivered
from autovoice.spec import Implicit
from autovoice.store.artefacts import Record
from tests.builders import INT8, quantized


def account(prefer_int8: bool = True, chosen: str = "", **found: Any) -> ComponentAccount:
    precision = replace(INT8, name="int8_entropy", implicit=Implicit(prefer_int8=prefer_int8))
    c = quantized("a", precision=precision)
    result = {"delivered": {"file": {}, "told_by": "inspector", **found}} | ({"chosen": chosen} if chosen else {})
    taken = c.baseline if c.baseline and chosen == c.baseline.precision.name else c.primary
    engine = EngineAccount("a", taken, Record("k", {"fields": {}}, result, {}, 0.0), None, None)
    return ComponentAccount(c, engine, None, None, {"a": Record("e", {}, {}, {}, 0.0)}, {}, None, None, None)


@pytest.mark.parametrize(
    ("found", "text"),
    [
        ({"heavy": {"int8": 72, "float16": 6}, "quantized_by": "builder"}, "int8_entropy 72/78 Conv/MatMul"),
        ({"heavy": {"float16": 78}, "quantized_by": "builder"}, "int8_entropy 0/78 Conv/MatMul"),
        ({"heavy": {"float32": 3}}, "nothing of its 3 Conv/MatMul to quantize"),
        ({"heavy": {}, "quantized_by": "builder"}, "nothing to quantize"),
        ({"heavy": {}}, "nothing to quantize"),
        ({"file": {"int8": 2, "float32": 5}}, "int8_entropy 2/7 nodes"),
    ],
)
def test_how_much_is_int8(found: dict[str, Any], text: str) -> None:
    assert delivered(account(**found)) == text


@pytest.mark.parametrize(
    ("prefer_int8", "fix"),
    [(False, "precision.implicit.prefer_int8=true asks for it"), (True, "precision=int8 writes explicit pairs")],
)
def test_a_builder_that_chose_none_of_it_is_noted_with_what_asks_for_more(prefer_int8: bool, fix: str) -> None:
    def notes(**found: Any) -> list[str]:
        return list(component_notes(account(prefer_int8, **found)))

    (note,) = notes(heavy={"float16": 78}, quantized_by="builder")
    assert note == f" note: a: the builder put none of 78 Conv/MatMul in int8; {fix}"
    assert notes(heavy={"int8": 1, "float16": 77}, quantized_by="builder") == []
    assert notes(heavy={}, quantized_by="builder") == []
