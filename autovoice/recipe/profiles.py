"""Optimization profiles: for every input the least, the best and the largest shape an engine is built for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import product

from autovoice.expr import evaluate, symbols
from autovoice.graph import Graph
from autovoice.recipe.step import closed, inputs_of, symbols_of
from autovoice.spec import POINTS, Component, Dim

Profile = dict[str, dict[str, list[int]]]


def engine_profiles(graph: Graph, c: Component) -> list[Profile]:
    """One profile, or where dims have `buckets` one for each: {input: {min, opt, max}}.

    A bucket reaches from the one below it, exclusive, to its own size, for which it is tuned; the last one to max.
    """
    inputs = inputs_of(graph, c)
    used = closed(symbols_of(t["shape"] for t in inputs.values()), graph.dims)
    roots = closed({s for d in used.values() for s in symbols(d.profile or 0)}, graph.dims)
    found = []
    for spans in _spans({**used, **roots}):
        sizes = _sizes({**roots, **used}, spans)
        shapes = {n: {p: [evaluate(a, sizes[p]) for a in t["shape"]] for p in POINTS} for n, t in inputs.items()}
        if shapes not in found:
            found.append(shapes)
    return found


def _spans(dims: Mapping[str, Dim]) -> Iterator[dict[str, dict[str, int]]]:
    """Every combination of buckets: {dim: {min, opt, max}} of each dim that has any."""
    bucketed = {n: list(_buckets(d)) for n, d in dims.items() if d.buckets}
    for chosen in product(*bucketed.values()):
        yield dict(zip(bucketed, chosen, strict=True))


def _buckets(d: Dim) -> Iterator[dict[str, int]]:
    low = d.min
    for bucket in sorted(set(d.buckets)):
        yield {"min": low, "opt": bucket, "max": bucket}
        low = bucket + 1
    if low <= d.max:
        yield {"min": low, "opt": d.opt if low <= d.opt else d.max, "max": d.max}


def _sizes(dims: Mapping[str, Dim], spans: Mapping[str, Mapping[str, int]]) -> dict[str, dict[str, int]]:
    """{point: {dim: size}}; a dim whose profile follows a bucketed one starts where the bucket below ends."""
    sizes: dict[str, dict[str, int]] = {p: {} for p in POINTS}
    for name, d in dims.items():
        if d.formula is None and d.profile is None:
            for p in POINTS:
                sizes[p][name] = spans.get(name, {}).get(p, getattr(d, p))
    for name, d in dims.items():
        if d.formula is None and d.profile is not None:
            moved = [s for s in symbols(d.profile) if s in spans]
            for p in POINTS:
                sizes[p][name] = evaluate(d.profile, sizes[p]) if moved else getattr(d, p)
            if any(spans[s]["min"] > dims[s].min for s in moved):
                below = {s: n - 1 if s in moved and n > dims[s].min else n for s, n in sizes["min"].items()}
                sizes["min"][name] = evaluate(d.profile, below) + 1
    left = {n: d.formula for n, d in dims.items() if d.formula is not None}
    while left:
        ready = [n for n, f in left.items() if symbols(f) <= sizes["min"].keys()]
        for name in ready:
            formula = left.pop(name)
            for p in POINTS:
                sizes[p][name] = evaluate(formula, sizes[p])
        if not ready:
            raise AssertionError(f"dims of {sorted(left)} are not known: the graph was not checked")
    return sizes
