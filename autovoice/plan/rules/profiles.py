"""Optimization profiles: for every input the least, the best and the largest shape an engine is built for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

from autovoice.dims.expressions import ExprError, evaluate, symbols
from autovoice.dims.solving import fitted
from autovoice.errors import ConfigError, Fault
from autovoice.graph.wiring import Graph
from autovoice.plan.rules.tensors import inputs_of, symbols_of
from autovoice.spec import POINTS, Component, Dim

if TYPE_CHECKING:
    from autovoice.spec.fields import Profile

#: beside min, opt and max: where a dim that follows others starts and ends
_BELOW, _ABOVE = "below", "above"


@dataclass(frozen=True)
class _Span:
    """The part of a dim's range that one bucket covers.

    `below` and `above` lie inside the buckets beside it, at its own ends where there is none.
    """

    min: int
    opt: int
    max: int
    below: int
    above: int
    first: bool
    last: bool


def engine_profiles(graph: Graph, c: Component) -> list[Profile]:
    """One profile, or where dims have `buckets` one for each: {input: {min, opt, max}}.

    A bucket reaches from the one below it, exclusive, to its own size, for which it is tuned; the last one to max.
    What follows a bucketed dim reaches a little beyond the bucket: how many samples make so many frames depends on
    how whoever cuts them rounds. Raises ConfigError for a bucket at which a size is no whole number.
    """
    inputs = inputs_of(graph, c)
    dims = _all(symbols_of(t["shape"] for t in inputs.values()), graph.dims)
    found: list[Profile] = []
    for spans in _spans(dims):
        sizes = _Sizes(dims, spans)
        try:
            shapes = {n: {p: [sizes.axis(a, p) for a in t["shape"]] for p in POINTS} for n, t in inputs.items()}
        except ExprError as e:
            fix = f"sizes at which every axis of {c.name} is a whole number"
            raise ConfigError([Fault(f"dims.{d}.buckets", str(e), fix) for d in spans]) from e
        if shapes not in found:
            found.append(shapes)
    return found


def _all(names: Iterable[str], dims: Mapping[str, Dim]) -> dict[str, Dim]:
    """These dims and whatever they are computed from or follow."""
    found: dict[str, Dim] = {}
    left = sorted(names)
    while left:
        name = left.pop()
        if name not in found:
            found[name] = dims[name]
            left += sorted(_read(dims[name]))
    return dict(sorted(found.items()))


def _read(d: Dim) -> frozenset[str]:
    return symbols(d.formula or d.profile or 0)


def _spans(dims: Mapping[str, Dim]) -> Iterator[dict[str, _Span]]:
    """Every combination of buckets: {dim: span} of each dim that has any."""
    bucketed = {n: list(_buckets(d)) for n, d in dims.items() if d.buckets and d.formula is None}
    for chosen in product(*bucketed.values()):
        yield dict(zip(bucketed, chosen, strict=True))


def _buckets(d: Dim) -> Iterator[_Span]:
    low, below = d.min, d.min
    ends = sorted({*d.buckets, d.max})
    for end in ends:
        tuned = d.opt if end not in d.buckets and low <= d.opt else end
        above = min(end + d.multiple, d.max)
        yield _Span(low, tuned, end, below, above, end == ends[0], end == ends[-1])
        low, below = end + d.multiple, max(d.min, end - d.multiple)


class _Sizes:
    """What every dim is at each point, in one combination of buckets."""

    def __init__(self, dims: Mapping[str, Dim], spans: Mapping[str, _Span]) -> None:
        self.dims = dims
        self.spans = spans

    def axis(self, axis: str | int, point: str) -> int:
        return evaluate(axis, {s: self.dim(s, point) for s in symbols(axis)})

    def dim(self, name: str, point: str) -> int:
        d = self.dims[name]
        if name in self.spans:
            return int(getattr(self.spans[name], point))
        if d.formula is not None:
            return self.axis(d.formula, point)
        moved = [self.spans[s] for s in self._roots(name) if s in self.spans]
        if not moved:
            return int(getattr(d, {_BELOW: "min", _ABOVE: "max"}.get(point, point)))
        return self._following(d, point, moved)

    def _following(self, d: Dim, point: str, moved: list[_Span]) -> int:
        """A size that follows bucketed ones, inside the dim's own bounds, which the outermost buckets reach."""
        least = d.min if all(s.first for s in moved) else self._followed(d, _BELOW)
        if point in ("min", _BELOW):
            return least
        most = d.max if all(s.last for s in moved) else max(least, self._followed(d, _ABOVE, up=True))
        return most if point in ("max", _ABOVE) else min(max(least, self._followed(d, point)), most)

    def _followed(self, d: Dim, point: str, up: bool = False) -> int:
        assert d.profile is not None
        return fitted(self.axis(d.profile, point), d.min, d.max, d.multiple, up)

    def _roots(self, name: str) -> set[str]:
        """The free dims that a dim follows in the end."""
        if name in self.spans or not _read(self.dims[name]):
            return {name}
        return {root for s in _read(self.dims[name]) for root in self._roots(s)}
