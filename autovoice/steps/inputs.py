"""Seeded external inputs of the whole pipeline at min, opt, max and between."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from autovoice.dims.example_values import draw
from autovoice.dims.solving import joint_sizes
from autovoice.measure.points import POINTS, save_point
from autovoice.steps.context import Context

if TYPE_CHECKING:
    from autovoice.spec.fields import DimField
    from autovoice.steps.fields import InputsFields


def run(context: Context[InputsFields]) -> dict[str, Any]:
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


def sizes_at(point: str, dims: Mapping[str, DimField]) -> dict[str, int]:
    """The value of every dim at a point; `between` lies halfway from opt to max, or to min where opt is max.

    There, too, a dim whose profile follows others follows them.
    """
    free = {n: _free(point, d) for n, d in dims.items() if d["formula"] is None}
    return joint_sizes(dims, free, fixed=() if point == "between" else free)


def _free(point: str, d: DimField) -> int:
    if point != "between":
        return {"min": d["min"], "opt": d["opt"], "max": d["max"]}[point]
    other = d["max"] if d["max"] > d["opt"] else d["min"]
    middle = (d["opt"] + other) // 2
    if d["multiple"] > 1:
        return max(d["min"], middle - middle % d["multiple"])
    # an odd size is more telling than one that every stride divides
    return middle if middle % 2 or middle + 1 > d["max"] else middle + 1
