"""Formulas of sizes, found from observations: what a size is for several sizes of the free dims."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import gcd

from autovoice.dims.expressions import ExprError, evaluate

Sizes = Mapping[str, int]


def formula_of(observed: Sequence[tuple[Sizes, int]]) -> str | int | None:
    """The simplest of the forms below that gives every size observed; None where none does.

    A number; `a*n + b`; `c*((n + b) // a)`; `a*n*m`; `n + m + b`. A few observations fit many formulas by chance: each
    free dim should have been seen at four sizes or more.
    """
    sizes = [size for _, size in observed]
    if len(set(sizes)) == 1:
        return sizes[0]
    names = sorted({name for free, _ in observed for name in free})
    for formula in _candidates(names, observed):
        if _holds(formula, observed):
            return formula
    return None


def _holds(formula: str, observed: Sequence[tuple[Sizes, int]]) -> bool:
    try:
        return all(evaluate(formula, dict(free)) == size for free, size in observed)
    except ExprError:
        return False


def _candidates(names: Sequence[str], observed: Sequence[tuple[Sizes, int]]) -> Iterator[str]:
    for name in names:
        points = sorted({(free[name], size) for free, size in observed})
        if len({n for n, _ in points}) == len(points) > 1:  # the size follows from this dim alone
            yield from _linear(name, points)
            yield from _quotient(name, points)
    first, size = observed[0]
    for i, name in enumerate(names):
        for other in names[i + 1 :]:
            product = first[name] * first[other]
            if size % product == 0:
                yield _times(size // product, f"{name}*{other}")
            yield _plus(f"{name} + {other}", size - first[name] - first[other])


def _linear(name: str, points: Sequence[tuple[int, int]]) -> Iterator[str]:
    (n0, s0), (n1, s1) = points[0], points[-1]
    if (s1 - s0) % (n1 - n0) == 0:
        slope = (s1 - s0) // (n1 - n0)
        yield _plus(_times(slope, name), s0 - slope * n0)


def _quotient(name: str, points: Sequence[tuple[int, int]]) -> Iterator[str]:
    """`c*((n + b) // a)`, as strided layers have it: of all b that fit, the one nearest to none."""
    common = gcd(*(size for _, size in points))
    for factor in dict.fromkeys((1, common)):
        scaled = [(n, size // factor) for n, size in points]
        rise, run = scaled[-1][1] - scaled[0][1], scaled[-1][0] - scaled[0][0]
        if rise < 2:  # nearly any divisor would do
            continue
        for divisor in range(max(2, run // (rise + 1)), run // max(rise - 1, 1) + 2):
            low = max(size * divisor - n for n, size in scaled)
            high = min((size + 1) * divisor - 1 - n for n, size in scaled)
            if low <= high:
                shift = min(max(low, 0), high)
                inside = _plus(name, shift)
                yield _times(factor, f"({inside}) // {divisor}" if shift else f"{name} // {divisor}", grouped=True)


def _times(factor: int, text: str, grouped: bool = False) -> str:
    if factor == 1:
        return text
    return f"{factor}*({text})" if grouped else f"{factor}*{text}"


def _plus(text: str, number: int) -> str:
    return text if number == 0 else f"{text} {'+' if number > 0 else '-'} {abs(number)}"
