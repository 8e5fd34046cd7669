"""Sizes of dims from the shapes of arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

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
            sizes[symbol] = _solved(axis, size, symbol, sizes, dims[symbol]["max"])
    return sizes


def _solved(axis: str | int, size: int, symbol: str, sizes: Mapping[str, int], largest: int) -> int:
    """The smallest value of a symbol that makes its axis as long as it is; one above the largest where none does."""
    for n in range(1, largest + 1):
        try:
            if evaluate(axis, {**sizes, symbol: n}) >= size:
                return n
        except ExprError:  # a quotient with a remainder: not a size this axis can have
            continue
    return largest + 1
