from __future__ import annotations

import pytest

from autovoice.terminal.table import megabytes, seconds, table


def test_columns_are_as_wide_as_their_widest_cell() -> None:
    text = table(["name", "dB"], [("vocoder", "61.2"), ("mel", "7")])
    assert text.splitlines() == [
        " name     dB",
        " vocoder  61.2",
        " mel      7",
    ]


def test_without_rows_there_is_the_header() -> None:
    assert table(["a", "b"], []) == " a  b"


def test_an_empty_last_cell_leaves_no_blanks() -> None:
    assert table(["a", "long"], [("x", "")]).splitlines()[1] == " x"


def test_a_row_of_another_length_is_refused() -> None:
    with pytest.raises((IndexError, ValueError)):
        table(["a", "b"], [("x",)])


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0.0 kB"), (2_600, "2.6 kB"), (99_999, "100.0 kB"), (100_000, "0.1 MB"), (55_700_000, "55.7 MB")],
)
def test_sizes(size: int, text: str) -> None:
    assert megabytes(size) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.04, "0.0 s"),
        (0.38, "0.4 s"),
        (12.9, "12.9 s"),
        (59.94, "59.9 s"),
        (59.96, "1 min 00 s"),
        (60, "1 min 00 s"),
        (185.2, "3 min 05 s"),
        (3599.9, "60 min 00 s"),
        (5000, "83 min 20 s"),
    ],
)
def test_times(value: float, text: str) -> None:
    assert seconds(value) == text
