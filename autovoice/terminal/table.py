"""Plain text tables and sizes, as the terminal and the README show them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from autovoice.terminal.escape import escaped


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Left-aligned columns, two spaces between them, one before."""
    lines = [[escaped(cell) for cell in row] for row in (header, *rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    return "\n".join(
        (" " + "  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True))).rstrip() for line in lines
    )


def megabytes(size: int) -> str:
    """`55.7 MB`, or `2.6 kB` below a tenth of one."""
    return f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{size / 1e3:.1f} kB"


def seconds(value: float) -> str:
    """`0.4 s`, `12.9 s`, `3 min 05 s`."""
    if round(value, 1) < 60:
        return f"{value:.1f} s"
    return f"{round(value) // 60} min {round(value) % 60:02d} s"
