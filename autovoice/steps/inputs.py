"""Seeded external inputs of the whole pipeline at min, opt, max and between."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from autovoice.errors import StepError
from autovoice.expr import evaluate, symbols
from autovoice.steps.context import Context
from autovoice.steps.points import POINTS, save_point


def run(context: Context) -> dict[str, Any]:
    """Write one npz a point, by wire."""
    fields = context.fields
    shapes: dict[str, Any] = {}
    for index, point in enumerate(POINTS):
        sizes = sizes_at(point, fields["dims"])
        # a generator for each name: what one input is does not depend on which others there are
        seeds = {name: [fields["seed"], index, *name.encode()] for name in fields["tensors"]}
        arrays = {n: draw(n, t, sizes, np.random.default_rng(seeds[n])) for n, t in fields["tensors"].items()}
        save_point(context.out, point, arrays)
        shapes[point] = sizes
    return {"points": shapes}


def sizes_at(point: str, dims: Mapping[str, Any]) -> dict[str, int]:
    """The value of every dim at a point; `between` lies halfway from opt to max, or to min where opt is max."""
    free = {n: _free(point, d) for n, d in dims.items() if d["formula"] is None}
    return solved(free, {n: d["formula"] for n, d in dims.items() if d["formula"] is not None})


def solved(free: Mapping[str, int], formulas: Mapping[str, str]) -> dict[str, int]:
    """The value of every dim, from those of the free ones."""
    sizes, left = dict(free), dict(formulas)
    while left:
        for name in [n for n in left if _computable(left[n], sizes)]:
            sizes[name] = evaluate(left.pop(name), sizes)
    return sizes


def _computable(formula: str, sizes: Mapping[str, int]) -> bool:
    return symbols(formula) <= sizes.keys()


def _free(point: str, d: Mapping[str, Any]) -> int:
    if point != "between":
        return int(d[point])
    other = d["max"] if d["max"] > d["opt"] else d["min"]
    middle = (d["opt"] + other) // 2
    if d["multiple"] > 1:
        return max(d["min"], middle - middle % d["multiple"])
    # an odd size is more telling than one that every stride divides
    return int(middle) if middle % 2 or middle + 1 > d["max"] else int(middle) + 1


def free_size(low: int, high: int, multiple: int, part: float) -> int:
    """A size `part` of the way from `low` to `high`, both multiples."""
    return int(low + multiple * round((high - low) * part / multiple))


def draw(name: str, tensor: Mapping[str, Any], sizes: Mapping[str, int], rng: np.random.Generator) -> np.ndarray:
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
        return rng.random(shape) < value
    if kind == "integers":
        return rng.integers(value[0], value[1], shape, endpoint=True)
    if kind == "cycle":  # real data, as often as fits, each row starting elsewhere
        rows = [np.roll(value, -int(rng.integers(len(value)))) for _ in range(math.prod(shape[:-1]))]
        return np.stack([np.resize(row, shape[-1]) for row in rows]).reshape(shape)
    return np.full(shape, value)
