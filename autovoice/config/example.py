"""An override that fits, in place of a value of the wrong kind."""

from __future__ import annotations

from typing import Any

from autovoice.terminal.overrides import override as override
from autovoice.terminal.overrides import written


def fitting(value: Any, kind: type, default: Any) -> tuple[str, ...]:
    """What to write instead of `value` where `kind` is wanted: the same in the right form, or `default`, or an example.

    None is no default.
    """
    if kind is bool:
        return "true", "false"
    if kind is list:
        return (f"[{written(value)}]" if _scalar(value) else "[first,second]",)
    if kind is dict:
        return ("{key: value}",)
    if kind is str:
        one = value[0] if isinstance(value, list) and len(value) == 1 else value
        return (written(str(one).lower() if isinstance(one, bool) else str(one)) if _scalar(one) else "text",)
    return ("1" if default is None else f"{default:g}",)


def plain(value: Any) -> str:
    """A word or a number as it is written in an override; text that would be read as something else in quotes."""
    return written(value)


def _scalar(value: Any) -> bool:
    return isinstance(value, str | int | float)
