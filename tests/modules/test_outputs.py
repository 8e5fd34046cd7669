"""What forward may return, and under which names."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from autovoice.errors import ExportError
from autovoice.modules.outputs import flat_values, named_outputs

A, B, C = (torch.full((1,), float(i)) for i in range(3))


@dataclass
class Answer:
    mean: Tensor
    scale: Tensor | None = None
    hidden: tuple[Tensor, ...] | None = None


class Pair(NamedTuple):
    mean: Tensor
    scale: Tensor


class ModelOutput(OrderedDict):
    """As libraries of transformers have it."""


@pytest.mark.parametrize(
    ("got", "declared", "named"),
    [
        (A, ["y"], {"y": A}),
        ((A, B), ["y", "z"], {"y": A, "z": B}),
        ([A, B], ["y", "z"], {"y": A, "z": B}),
        ({"z": A, "y": B}, ["y", "z"], {"z": A, "y": B}),
        ((A, (B, [C])), ["x", "y", "z"], {"x": A, "y": B, "z": C}),
        ((A, None, B), ["y", "z"], {"y": A, "z": B}),
        (Answer(A, B), ["scale", "mean"], {"mean": A, "scale": B}),
        (Answer(A), ["mean"], {"mean": A}),
        (Answer(A, B, (C,)), ["a", "b", "c"], {"a": A, "b": B, "c": C}),
        (Pair(A, B), ["scale", "mean"], {"mean": A, "scale": B}),
        (Pair(A, B), ["y", "z"], {"y": A, "z": B}),
        (ModelOutput(mean=A, scale=B), ["scale", "mean"], {"mean": A, "scale": B}),
        ({"one": {"mean": A}, "two": {"scale": B}}, ["scale", "mean"], {"mean": A, "scale": B}),
        ({"one": {"h": A}, "two": {"h": B}}, ["y", "z"], {"y": A, "z": B}),
        ((A, {"scale": B}), ["y", "z"], {"y": A, "z": B}),
    ],
)
def test_names(got: Any, declared: list[str], named: dict[str, Tensor]) -> None:
    found = named_outputs("Net", got, declared)
    assert list(found.items()) == list(named.items())  # in the order of forward
    assert flat_values(got) == tuple(named.values())


@pytest.mark.parametrize(
    ("got", "declared", "fact", "fix"),
    [
        ((A, (B,)), ["y"], "forward() of Net returned 2 tensors, 1 are declared", "declared outputs: y"),
        ({"y": A}, ["z"], "forward() of Net returned no 'z'", "available: y"),
        (Answer(A, B), ["mean"], "forward() of Net also returned 'scale', which is not declared", "outputs: mean"),
        (Answer(A), ["mean", "scale"], "forward() of Net returned no 'scale'", "did you mean 'scale'? available: mean"),
        ((A, 3), ["y", "z"], "output 'z' is a int, not a tensor", "return tensors only"),
        ((A, [B, "text"]), ["x", "y", "z"], "output 'z' is a str, not a tensor", "return tensors only"),
        (None, ["y"], "forward() of Net returned 0 tensors, 1 are declared", "declared outputs: y"),
    ],
)
def test_what_cannot_be_named(got: Any, declared: list[str], fact: str, fix: str) -> None:
    with pytest.raises(ExportError) as raised:
        named_outputs("Net", got, declared)
    assert raised.value.fact == fact
    assert raised.value.fix in (fix, "available: mean")
