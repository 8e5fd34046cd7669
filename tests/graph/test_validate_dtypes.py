from __future__ import annotations

from dataclasses import replace

import pytest

from autovoice.errors import Fault
from autovoice.graph.validate_dtypes import check_dtypes
from autovoice.spec import DTYPES, Input, Output, Tensor
from tests.builders import quantized

TAKEN = ("float32", "int32")


def faults(read: str, made: str, taken: tuple[str, ...]) -> list[Fault]:
    c = quantized("a")
    wires = {"x": Tensor("x", read, ("n",))}
    c = replace(c, backend=replace(c.backend, name="picky", tensors=taken), inputs=(Input("x", "x"),))
    c = replace(c, outputs=(Output("y", Tensor("y", made, ("n",))),))
    found: list[Fault] = []
    check_dtypes(c, wires, found)
    return found


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_backend_that_names_none_takes_all(dtype: str) -> None:
    assert faults(dtype, dtype, ()) == []


def test_what_a_backend_has_not_is_refused_with_what_it_has() -> None:
    first, second = faults("float64", "uint16", TAKEN)
    assert first.where == "component.a.inputs.x"
    assert first.fact == "'x' is float64, which picky has no inputs or outputs of"
    assert first.fix == "cast it inside the model: it takes float32, int32; or choose another backend"
    assert second.where == "component.a.outputs.y"
    assert faults("int32", "float32", TAKEN) == []
