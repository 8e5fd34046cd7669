"""The dims of a configuration, their bounds computed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from autovoice.config.example import override
from autovoice.config.reader import Reader
from autovoice.dims.expressions import ExprError, canonical, evaluate, symbols
from autovoice.errors import Fault, nearest
from autovoice.spec import POINTS, Dim

_DIM = "{min: 1, opt: 2, max: 3}"
_KINDS = f'a dim is {_DIM}, or a formula such as "2*frames"'


class _Reported(ExprError):
    """There is no value, for a fault that has been told."""


def read_dims(node: Any, faults: list[Fault]) -> dict[str, Dim]:
    """All dims; a bound may be arithmetic over the same bound of other dims, so they resolve lazily."""
    if not isinstance(node, Mapping):
        faults.append(Fault("dims", f"must be a mapping, got {node!r}", override("dims", f"{{name: {_DIM}}}")))
        return {}
    readers = {n: Reader(_dim_mapping(d), f"dims.{n}", faults, _DIM) for n, d in node.items()}
    exprs = {name: _bounds(r) for name, r in readers.items()}
    resolved = {name: _resolve(name, exprs, readers[name]) for name in exprs}
    dims = {}
    for i, (name, r) in enumerate(readers.items()):
        low, opt, high = resolved[name]
        buckets = tuple(r.take("buckets", list, []))
        if not all(type(b) is int for b in buckets):
            fix = override(r.path("buckets"), "[128,512]")
            r.fault("buckets", f"must be whole numbers, got {list(buckets)!r}", fix)
            buckets = ()
        multiple = r.take("multiple", int, 1)
        trace: int | None = r.take("trace", int, None)
        if min(multiple, 1 if trace is None else trace) < 1:
            key, usual = ("multiple", "1") if multiple < 1 else ("trace", "null")
            r.fault(key, "must be at least 1", override(r.path(key), usual))
            multiple, trace = 1, None
        # an even, distinct size per symbol: equal sizes invite the exporter to tie axes together
        default = 24 + 2 * i + -(24 + 2 * i) % multiple
        exprs[name]["trace"] = trace or exprs[name]["formula"] or default
        followed = any(r.raw(point) is None for point in POINTS)
        profile = r.take("profile", str, None) if followed else None
        dims[name] = Dim(name, low, opt, high, exprs[name]["formula"], profile, multiple, default, buckets)
        r.done()
    return {name: replace(dim, trace=_traced(dim, exprs)) for name, dim in dims.items()}


def _traced(dim: Dim, exprs: Mapping[str, Any]) -> int:
    """The size to trace with: a derived dim's follows its formula, so that all sizes of one trace belong together."""
    try:
        size = _bound(dim.name, "trace", exprs, ())
    except (KeyError, ExprError):  # its bounds have told the formula's fault
        return dim.trace
    return size if size > 1 else dim.trace


def _bounds(r: Reader) -> dict[str, Any]:
    formula, profile = r.take("formula", str, None), r.take("profile", str, None)
    derived = None if formula is None else _canonical(r, "formula", formula)
    exprs: dict[str, Any] = {"formula": derived}
    for point in POINTS:
        own = r.raw(point)
        if formula is None:
            exprs[point] = _canonical(r, point, profile if own is None else own)
            continue
        if own is not None:
            r.fault(point, f"is {own!r}, but a derived dim follows its formula", "remove it, or the formula")
        exprs[point] = derived
    return exprs


def _canonical(r: Reader, key: str, value: Any) -> str | int | None:
    """None for what is no expression, once that has been told."""
    if type(value) not in (int, str):
        r.fault(key, "is required" if value is None else f"must be a whole number, got {value!r}", _KINDS)
        return None
    try:
        return canonical(value)
    except ExprError as e:
        r.fault(key, str(e), e.fix)
        return None


def _resolve(name: str, exprs: Mapping[str, Any], r: Reader) -> tuple[int, int, int]:
    try:
        low, opt, high = (_bound(name, point, exprs, ()) for point in POINTS)
    except KeyError as e:
        r.fault("", f"reads the unknown dim '{e.args[0]}'", nearest(e.args[0], exprs))
    except _Reported:
        pass
    except ExprError as e:
        r.fault("", str(e), e.fix)
    else:
        return low, opt, high
    return 1, 1, 1


def _dim_mapping(node: Any) -> Any:
    if type(node) is int:  # a fixed size
        return dict.fromkeys(POINTS, node)
    return {"formula": node} if isinstance(node, str) else node


def _bound(name: str, point: str, exprs: Mapping[str, Any], via: tuple[str, ...]) -> int:
    """The value of a bound whose expression may read the same bound of other dims."""
    if name in via:
        raise ExprError(f"dims read each other: {' → '.join([*via, name])}", f"give one numbers: dims.{name}='{_DIM}'")
    expr = exprs[name][point]
    if expr is None:
        raise _Reported("", "")
    return evaluate(expr, {s: _bound(s, point, exprs, (*via, name)) for s in symbols(expr)})
