"""Seeded values of declared tensors."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from autovoice.dims.expressions import evaluate
from autovoice.errors import StepError

if TYPE_CHECKING:
    from autovoice.spec.fields import ExampleField


def free_size(low: int, high: int, multiple: int, part: float) -> int:
    """A size `part` of the way from `low` to `high`, both multiples."""
    return int(low + multiple * round((high - low) * part / multiple))


def draw(name: str, tensor: ExampleField, sizes: Mapping[str, int], rng: np.random.Generator) -> np.ndarray:
    """Seeded values of a declared tensor, by its `example:`, else its default."""
    shape = [evaluate(axis, sizes) for axis in tensor["shape"]]
    dtype = np.dtype(tensor["dtype"])
    example = tensor["example"]
    if example is None and tensor["default"] is not None:
        return np.full(shape, tensor["default"], dtype)
    if example is None:
        example = {"bernoulli": 0.5} if dtype == np.bool_ else {"normal": [0, 1]}
    ((kind, value),) = example.items()
    try:
        return _draw(kind, value, shape, rng).astype(dtype)
    except (TypeError, ValueError) as e:
        raise StepError(f"pipeline.inputs.{name}.example: {example} cannot be drawn", str(e)) from e


def _draw(kind: str, value: Any, shape: list[int], rng: np.random.Generator) -> np.ndarray:
    if kind == "normal":
        return rng.normal(value[0], value[1], shape)
    if kind == "uniform":
        return rng.uniform(value[0], value[1], shape)
    if kind == "bernoulli":
        return np.asarray(rng.random(shape) < value)
    if kind == "integers":
        return rng.integers(value[0], value[1], shape, endpoint=True)
    if kind == "cycle" and shape:  # real data, as often as fits, each row starting elsewhere
        rows = [np.roll(value, -int(rng.integers(len(value)))) for _ in range(math.prod(shape[:-1]))]
        return np.stack([np.resize(row, shape[-1]) for row in rows]).reshape(shape)
    return np.full(shape, value[0] if kind == "cycle" else value)
