"""Formulas of axes: the exporter's own, compared by value with the declared one."""

from __future__ import annotations

from collections.abc import Mapping

from autovoice.dims.expressions import ExprError, evaluate, symbols
from autovoice.dims.solving import with_formulas
from autovoice.errors import ExportError


def check_formula(where: str, got: str, want: str, bound: Mapping[str, str | int], formulas: Mapping[str, str]) -> None:
    """Compare two expressions by value: the exporter's, in its own symbols, and the declared one."""
    if not got:  # an unnamed axis of an existing file: nothing to compare, verification measures it
        return
    try:
        unknown = symbols(got) - bound.keys()
    except ExprError:
        return  # not arithmetic this tool reads: verification compares real sizes
    if unknown:
        return
    free = {s for axis in (*bound.values(), want) for s in symbols(axis)} - formulas.keys()
    for env in _sizes(sorted(free)):
        full = with_formulas(env, formulas)
        try:
            expected = evaluate(want, full)
            real = evaluate(got, {symbol: evaluate(axis, full) for symbol, axis in bound.items()})
        except (ExprError, KeyError):
            continue
        if real >= 1 and real != expected:
            sizes = ", ".join(f"{n}={v}" for n, v in env.items())
            raise ExportError(
                f"{where} is '{got}', declared '{want}': {real} against {expected} at {sizes}",
                "correct the formula in dims or in the shape",
            )


def _sizes(names: list[str]) -> list[dict[str, int]]:
    """Sizes that tell formulas apart: small and large, even and odd, every symbol another value."""
    base = (2, 3, 7, 16, 31, 100, 641, 1280, 3999, 16001)
    return [{n: base[(s + 3 * i) % len(base)] + s for i, n in enumerate(names)} for s in range(len(base))]
