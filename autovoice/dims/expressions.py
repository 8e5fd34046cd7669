"""Arithmetic over named dimensions: `256*frames`, `(samples - 80) // 320`.

One evaluator serves the shapes of the configuration and the symbolic axes that the exporter writes
(`PythonMod(a, b)`, `Max(a, b)`, `floor(…)`), so the two can be compared by value.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import TypeGuard

_FUNCTIONS: dict[str, Callable[..., object]] = {
    "min": min,
    "max": max,
    "Min": min,
    "Max": max,
    "abs": abs,
    "floor": math.floor,
    "ceil": math.ceil,
    "ceiling": math.ceil,
    "Mod": lambda a, b: a % b,
    "PythonMod": lambda a, b: a % b,
    "FloorDiv": lambda a, b: a // b,
    "CeilDiv": lambda a, b: -(-a // b),
}
_NODES = (
    ast.Expression,
    ast.BinOp,
    ast.UnaryOp,
    ast.Call,
    ast.Name,
    ast.Constant,
    ast.Load,
    ast.Add,
    ast.Sub,
    ast.Mult,
    ast.FloorDiv,
    ast.Div,
    ast.Mod,
    ast.USub,
    ast.UAdd,
)


_POSSIBLE = "use + - * // % min() max() ceil() floor(), names of dims and numbers, as 2*frames"
_COMPUTABLE = "no division by 0, and functions of what they take, as min(a, b) and ceil(a)"


class ExprError(ValueError):
    """Not arithmetic over dimensions, or without a size as its value; `fix` says what would be."""

    def __init__(self, fact: str, fix: str) -> None:
        super().__init__(fact)
        self.fix = fix


@lru_cache(maxsize=16384)
def _parse(text: str) -> ast.Expression:
    try:
        tree = ast.parse(text.strip(), mode="eval")
    except SyntaxError as e:
        raise ExprError(f"'{text}' is not arithmetic over dimensions", _POSSIBLE) from e
    for node in ast.walk(tree):
        known = isinstance(node, _NODES)
        if isinstance(node, ast.Constant):
            known = type(node.value) in (int, float)
        elif isinstance(node, ast.Call):
            known = isinstance(node.func, ast.Name) and node.func.id in _FUNCTIONS and not node.keywords
        if not known:
            raise ExprError(f"'{text}' is not arithmetic over dimensions", _POSSIBLE)
    return tree


@lru_cache(maxsize=16384)
def symbols(expr: str | int) -> frozenset[str]:
    """The dimension names that `expr` reads. Raises ExprError on anything but arithmetic."""
    if isinstance(expr, int):
        return frozenset()
    tree = _parse(expr)
    calls = {node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call)}  # type: ignore[attr-defined]
    return frozenset(n.id for n in ast.walk(tree) if isinstance(n, ast.Name)) - calls


@lru_cache(maxsize=16384)
def canonical(expr: str | int) -> str | int:
    """One spelling for one expression: `"256 *frames"` → `"256*frames"`, `"12"` → `12`."""
    if isinstance(expr, int):
        return expr
    tree = _parse(expr)
    if not symbols(expr):
        return evaluate(expr, {})
    if isinstance(tree.body, ast.Name):
        return tree.body.id
    return ast.unparse(tree).replace(" ", "")


@lru_cache(maxsize=16384)
def _compiled(text: str) -> Callable[[Mapping[str, int]], object]:
    code = compile(_parse(text), "<dims>", "eval")
    scope = {"__builtins__": {}, **_FUNCTIONS}
    return lambda env: eval(code, scope, dict(env))  # nodes were restricted to arithmetic by _parse


def evaluate(expr: str | int, env: Mapping[str, int]) -> int:
    """The value of `expr` with every symbol bound in `env`.

    Raises ExprError when the value is not a whole number or a division by zero occurs, KeyError when a
    symbol is not in `env`.
    """
    if isinstance(expr, int):
        return expr
    missing = symbols(expr) - env.keys()
    if missing:
        raise KeyError(min(missing))
    try:
        value = _compiled(expr)(env)
        whole = int(value)  # type: ignore[call-overload]
    except (ArithmeticError, TypeError, ValueError) as e:  # 1/0; min(), floor(1, 2); inf, nan
        raise ExprError(f"'{expr}' cannot be computed: {e}", _COMPUTABLE) from e
    if value != whole:
        fact = f"'{expr}' is {value}, not a whole number"
        raise ExprError(fact, "a // b and floor(a/b) round down, ceil(a/b) rounds up")
    return int(whole)


def is_symbol(expr: str | int) -> TypeGuard[str]:
    """True for a bare name such as `frames`."""
    return isinstance(expr, str) and expr.isidentifier()
