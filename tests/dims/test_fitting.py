from __future__ import annotations

from itertools import product

import pytest

from autovoice.dims.expressions import evaluate
from autovoice.dims.fitting import formula_of

#: neither multiples of each other nor of what layers stride by
N = (7, 12, 33, 64, 101, 250)
M = (1, 2, 3, 5)


def seen(formula: str) -> list[tuple[dict[str, int], int]]:
    every = [{"n": n, "m": m} for n, m in product(N, M)]
    return [(free, evaluate(formula, free)) for free in every]


@pytest.mark.parametrize(
    ("formula", "found"),
    [
        ("80", 80),
        ("n", "n"),
        ("m", "m"),
        ("256*n", "256*n"),
        ("n + 2", "n + 2"),
        ("3*n - 4", "3*n - 4"),
        ("n // 2", "n // 2"),
        ("(n + 1) // 2", "(n + 1) // 2"),
        ("4*(n // 5)", "4*(n // 5)"),
        ("n*m", "m*n"),
        ("3*n*m", "3*m*n"),
        ("n + m - 1", "m + n - 1"),
    ],
)
def test_the_form_that_fits(formula: str, found: str | int) -> None:
    assert formula_of(seen(formula)) == found


@pytest.mark.parametrize("formula", ["(n - 5) // 3", "(n + 13) // 16", "2*((n + 3) // 7)"])
def test_a_stride_gives_the_same_sizes_everywhere(formula: str) -> None:
    """Its shift may be another where the sizes seen do not tell; where they do, every size is the same."""
    every = [({"n": n}, evaluate(formula, {"n": n})) for n in range(20, 320)]
    found = formula_of(every)
    assert isinstance(found, str)
    assert all(evaluate(found, free) == size for free, size in every)


def test_what_fits_no_form() -> None:
    assert formula_of([({"n": n}, n * n) for n in N]) is None
