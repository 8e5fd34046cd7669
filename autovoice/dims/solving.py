"""Sizes of dims: from the shapes of arrays, from one another, and within their profiles."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from autovoice.dims.expressions import ExprError, evaluate, is_symbol, symbols

if TYPE_CHECKING:
    from autovoice.spec.fields import DimField
    from autovoice.spec.ports import TensorField


def sizes_of(
    shapes: Mapping[str, Sequence[int]], inputs: Mapping[str, TensorField], dims: Mapping[str, DimField]
) -> dict[str, int]:
    """Every dim that the shapes of a sample tell: as an axis of its own, or as the one unknown of arithmetic."""
    sizes: dict[str, int] = {}
    axes = [(a, n) for name, shape in shapes.items() for a, n in zip(inputs[name]["shape"], shape, strict=True)]
    for axis, size in axes:
        if is_symbol(axis):
            sizes[axis] = size
    for axis, size in axes:
        unknown = symbols(axis) - sizes.keys()
        if len(unknown) == 1:
            (symbol,) = unknown
            sizes[symbol] = least_size(axis, size, symbol, sizes, range(1, dims[symbol]["max"] + 1))
    return sizes


def least_size(axis: str | int, size: int, symbol: str, sizes: Mapping[str, int], spread: range) -> int:
    """The smallest value of a symbol that makes its axis at least so long; `spread.stop` where none does.

    Shapes grow with their symbols (checked at min, opt and max before a build), so bisection finds it, unless a
    quotient leaves a remainder on the way: then one value after another is tried.
    """
    try:
        return spread.start + bisect_left(spread, size, key=lambda n: evaluate(axis, {**sizes, symbol: n}))
    except ExprError:
        return next((n for n in spread if _reaches(axis, size, {**sizes, symbol: n})), spread.stop)


def _reaches(axis: str | int, size: int, sizes: Mapping[str, int]) -> bool:
    try:
        return evaluate(axis, sizes) >= size
    except ExprError:  # not a size this axis can have
        return False


def with_formulas(sizes: Mapping[str, int], formulas: Mapping[str, str]) -> dict[str, int]:
    """The sizes, and every derived dim that is none of them and whose formula they tell."""
    full = dict(sizes)
    for _ in formulas:  # as many rounds as the longest chain can need
        for name, formula in formulas.items():
            if name not in full and symbols(formula) <= full.keys():
                full[name] = evaluate(formula, full)
    return full


def joint_sizes(
    dims: Mapping[str, Mapping[str, Any]], free: Mapping[str, int], fixed: Collection[str] = ()
) -> dict[str, int]:
    """Sizes of all dims that belong together: those of `free` that `follow` others do so, unless they are `fixed`.

    `dims` are records {min, max, multiple, formula, follows}, `follows` only where there is something to follow.
    """
    formulas = {n: d["formula"] for n, d in dims.items() if d["formula"] is not None}
    left = {n: dims[n]["follows"] for n in free if dims[n].get("follows") is not None and n not in fixed}
    sizes = with_formulas({n: size for n, size in free.items() if n not in left}, formulas)
    while left:
        known = [n for n, expr in left.items() if symbols(expr) <= sizes.keys()]
        name = (known or [*left])[0]  # dims that follow each other have no other size than their own
        expr, d = left.pop(name), dims[name]
        sizes[name] = fitted(evaluate(expr, sizes), d["min"], d["max"], d["multiple"]) if known else free[name]
        sizes = with_formulas(sizes, formulas)
    return sizes


def fitted(size: int, least: int, most: int, multiple: int, up: bool = False) -> int:
    """The multiple below a size (or, `up`, above it), within a dim's bounds."""
    whole = -(-size // multiple) if up else size // multiple
    return min(max(least, whole * multiple), most)
