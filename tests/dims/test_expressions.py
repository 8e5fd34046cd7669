from __future__ import annotations

import pytest

from autovoice.dims.expressions import ExprError, canonical, evaluate, is_symbol, symbols


@pytest.mark.parametrize(
    ("expr", "expected"),
    [
        (7, 7),
        ("12", 12),
        ("256*frames", 2560),
        ("(samples - 80) // 320", 2),
        ("samples % 320", 170),
        ("-frames + samples", 800),
        ("samples / 2", 405),
        ("min(frames, samples)", 10),
        ("max(frames, 3, samples)", 810),
        ("Max(1, frames - 20)", 1),
        ("ceil(samples / 100)", 9),
        ("floor(samples / 100)", 8),
        ("PythonMod(frames, 4)", 2),
        ("Mod(-1, frames)", 9),
        ("FloorDiv(samples, 100)", 8),
        ("CeilDiv(samples, 100)", 9),
        ("abs(frames - samples)", 800),
    ],
)
def test_value(expr: str | int, expected: int) -> None:
    value = evaluate(expr, {"frames": 10, "samples": 810})
    assert value == expected
    assert type(value) is int


@pytest.mark.parametrize(
    ("expr", "message"),
    [
        pytest.param("samples/320", r"'samples/320' is 2\.53125, not a whole number", id="remainder"),
        pytest.param("samples//zero", "'samples//zero' cannot be computed: integer division or modulo by zero", id="0"),
        pytest.param("min()", r"'min\(\)' cannot be computed: min expected at least 1 argument", id="no_argument"),
        pytest.param("floor(1, 2)", r"'floor\(1, 2\)' cannot be computed", id="arguments"),
        pytest.param("1e999", "'1e999' cannot be computed: cannot convert float infinity", id="infinite"),
    ],
)
def test_values_that_are_no_size(expr: str, message: str) -> None:
    with pytest.raises(ExprError, match=message):
        evaluate(expr, {"samples": 810, "zero": 0})


@pytest.mark.parametrize(
    "expr",
    [
        "frames +",
        "frames ** 2",
        "frames if 1 else 2",
        "frames.real",
        "frames[0]",
        "__import__('os')",
        "open(frames)",
        "min(frames, key=abs)",
        "'a'*frames",
        "True",
        "lambda: 1",
        "",
    ],
)
def test_refused_unless_arithmetic(expr: str) -> None:
    with pytest.raises(ExprError, match="is not arithmetic over dimensions"):
        symbols(expr)


def test_unbound_symbol_is_named() -> None:
    with pytest.raises(KeyError, match="samples"):
        evaluate("frames*samples", {"frames": 1})


def test_builtins_are_out_of_reach_even_as_symbols() -> None:
    with pytest.raises(KeyError, match="open"):
        evaluate("open", {})


@pytest.mark.parametrize(
    ("expr", "expected"),
    [(3, set()), ("3*4", set()), ("256*frames", {"frames"}), ("max(a, b)//a", {"a", "b"})],
)
def test_symbols_are_dims_and_not_functions(expr: str | int, expected: set[str]) -> None:
    assert symbols(expr) == expected


@pytest.mark.parametrize(
    ("expr", "expected"),
    [
        (12, 12),
        ("12", 12),
        ("3*4", 12),
        (" frames ", "frames"),
        ("(frames)", "frames"),
        ("256 *frames", "256*frames"),
        ("(samples - 80)  // 320", "(samples-80)//320"),
    ],
)
def test_one_spelling_for_one_expression(expr: str | int, expected: str | int) -> None:
    assert canonical(expr) == expected


@pytest.mark.parametrize(("expr", "expected"), [("frames", True), ("2*frames", False), ("12", False), (12, False)])
def test_a_symbol_is_a_bare_name(expr: str | int, expected: bool) -> None:
    assert is_symbol(expr) is expected
