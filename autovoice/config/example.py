"""An override that fits, in place of a value of the wrong kind."""

from __future__ import annotations

import json
import re
import shlex
from typing import Any

#: what neither Hydra nor a shell reads as anything but itself
_WORD = re.compile(r"[A-Za-z_./][\w./-]*")
_MEANT_OTHERWISE = {"true", "false", "null", "nan", "inf"}
_FOR_A_SHELL = re.compile(r"[\w.,+/\[\]-]*")


def override(path: str, value: str) -> str:
    """`targets=[vocoder]`, quoted where a shell needs it; of a file that was looked up by name, the line in it."""
    file, _, _ = path.partition(".")
    if "/" in file:
        return f"{path.rpartition('.')[2]}: {value}, in {file}.yaml"
    return f"{path}={value if _FOR_A_SHELL.fullmatch(value) else shlex.quote(value)}"


def fitting(value: Any, kind: type, default: Any) -> tuple[str, ...]:
    """What to write instead of `value` where `kind` is wanted: the same in the right form, or `default`, or an example.

    None is no default.
    """
    if kind is bool:
        return "true", "false"
    if kind is list:
        return (f"[{plain(value)}]" if _scalar(value) else "[first,second]",)
    if kind is dict:
        return ("{key: value}",)
    if kind is str:
        one = value[0] if isinstance(value, list) and len(value) == 1 else value
        return (plain(str(one).lower() if isinstance(one, bool) else str(one)) if _scalar(one) else "text",)
    return ("1" if default is None else f"{default:g}",)


def plain(value: Any) -> str:
    """A word or a number as it is written in an override; text that would be read as something else in quotes."""
    if not isinstance(value, str):
        return json.dumps(value)
    bare = _WORD.fullmatch(value) and value.lower() not in _MEANT_OTHERWISE
    return value if bare else json.dumps(value, ensure_ascii=False)


def _scalar(value: Any) -> bool:
    return isinstance(value, str | int | float)
