"""Overrides as they are typed: Hydra's own quotes around a text, a shell's around the whole."""

from __future__ import annotations

import json
import math
import re
import shlex
from collections.abc import Mapping
from typing import Any

#: what neither Hydra nor a shell reads as anything but itself
_WORD = re.compile(r"[A-Za-z_/][A-Za-z0-9_./-]*|\.{1,2}/[A-Za-z0-9_./-]*")
_MEANT_OTHERWISE = {"true", "false", "null", "nan", "inf"}
_FOR_A_SHELL = re.compile(r"[A-Za-z0-9_.,+/\[\]-]*")
_CONTROL = re.compile("[\x01-\x1f\x7f]")
#: what an override can name: `component.c.inputs`, `+dims.n`, `~fuse`, `component/vocoder`
_ID = r"(?:[A-Za-z_][A-Za-z0-9_-]*|\d+|<name>)"
_PATH = re.compile(rf"[+~]*{_ID}(?:[./]{_ID})*")
#: groups: an override of such a key alone chooses an option, a node of one stands in a file
_CHOSEN = ("audio", "backend", "calibration", "component", "dims", "gate", "pipeline", "precision")


def override(path: str, value: str) -> str:
    """`targets=[vocoder]`, quoted where a shell needs it, `value` being in Hydra's grammar already.

    Of a file that was looked up by name, and of a key that no override can name, the line of YAML.
    """
    file, _, _ = path.partition(".")
    if "/" in file:
        return f"{path.rpartition('.')[2]}: {value}, in {file}.yaml"
    if path in _CHOSEN:
        return f"{path}: {value}, in its file"
    if not _PATH.fullmatch(path):
        where, _, key = path.rpartition(".")
        return f"{json.dumps(key, ensure_ascii=False)}: {value}" + (f", under {where} in its file" if where else "")
    if value[:1] == '"':
        return word(f"{path}={value}")
    return f"{path}={value if _FOR_A_SHELL.fullmatch(value) else word(value)}"


def word(text: str) -> str:
    """One word for a shell, line breaks and other control characters as escapes."""
    if not _CONTROL.search(text):
        return shlex.quote(text)
    plain = text.replace("\\", "\\\\").replace("'", "\\'")
    return "$'" + _CONTROL.sub(lambda m: f"\\x{ord(m[0]):02x}", plain) + "'"


def setting(path: str, value: Any) -> str:
    """The override that sets `path` to this very value, as it is typed."""
    return override(path, written(value))


def nameable(path: str) -> bool:
    """True for a key that an override can name."""
    return bool(_PATH.fullmatch(path)) and "<" not in path


def written(value: Any) -> str:
    """Plain data in Hydra's grammar."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{k}: {written(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(written(v) for v in value) + "]"
    if isinstance(value, str):
        bare = _WORD.fullmatch(value) and value.lower() not in _MEANT_OTHERWISE
        return value if bare else quoted(re.sub(r"(\\*)\$\{", r"\1\1\\${", value))
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return json.dumps(value)


def quoted(text: str) -> str:
    """The text in Hydra's quotes. Backslashes count there only before a quote; `${…}` stays an interpolation."""
    inside = re.sub(r'(\\*)"', r'\1\1\\"', text)
    trailing = re.search(r"\\*$", inside)
    return f'"{inside}{trailing[0] if trailing else ""}"'
