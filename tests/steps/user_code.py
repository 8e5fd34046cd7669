"""Calibration sources and calibrators as users write them, right and wrong."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx

Inputs = Mapping[str, Any]
Sample = dict[str, Any]


def rows(inputs: Inputs, count: int = 3, rows: int = 3, without: tuple[str, ...] = ()) -> Iterator[Sample]:
    """Every input as [rows, 8], of its dtype."""
    rng = np.random.default_rng(1)
    for _ in range(count):
        made = {n: rng.standard_normal((rows, 8)).astype(t["dtype"]) for n, t in inputs.items()}
        yield {n: v for n, v in made.items() if n not in without}


class Reader:
    """As ONNX Runtime's own calibration readers."""

    def __init__(self, inputs: Inputs, count: int = 3) -> None:
        self.left = rows(inputs, count)

    def get_next(self) -> Sample | None:
        return next(self.left, None)


def named_by_files(inputs: Inputs, component: str, files: Mapping[str, Path]) -> Iterator[tuple[str, Sample]]:
    """What a source is told besides."""
    for (name, path), sample in zip(sorted(files.items()), rows(inputs, len(files)), strict=True):
        yield f"{component} {name} {len(path.read_bytes())}", sample


def raises(inputs: Inputs) -> None:
    raise RuntimeError("the microphone is off")


def raises_later(inputs: Inputs) -> Iterator[Sample]:
    yield from rows(inputs, 1)
    raise RuntimeError("the tape ran out")


def nothing(inputs: Inputs) -> None:
    """A function whose author forgot to return."""


def number(inputs: Inputs) -> int:
    return 3


def numbers(inputs: Inputs) -> list[int]:
    return [1, 2, 3]


# -- calibrators -----------------------------------------------------------------------------------


def fixed(model: Path, tensors: list[str], component: str, inputs: Inputs, bound: float = 4.0) -> dict[str, Any]:
    assert onnx.load(model).graph.node
    assert inputs
    assert component == "encoder"
    return {t: (-bound, bound) for t in tensors}


def incomplete(tensors: list[str]) -> dict[str, Any]:
    return {t: (-1, 1) for t in tensors if t != "b"}


def too_much(tensors: list[str]) -> dict[str, Any]:
    return {t: (-1, 1) for t in [*tensors, "bb"]}


def not_finite(tensors: list[str]) -> dict[str, Any]:
    return {t: (-1, float("nan")) for t in tensors}


def backwards(tensors: list[str]) -> dict[str, Any]:
    return {t: (1, -1) for t in tensors}


def single(tensors: list[str]) -> dict[str, Any]:
    return {t: 1.0 for t in tensors}


def beyond(tensors: list[str]) -> dict[str, Any]:
    """Finite, but not in float32."""
    return {t: (-1e39, 1e39) for t in tensors}


def no_ranges(tensors: list[str]) -> None:
    """A calibrator whose author forgot to return."""


def no_table(tensors: list[str]) -> None:
    raise LookupError("no such table")
