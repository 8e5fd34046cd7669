"""An override that Hydra cannot read, and how it is typed so that it can."""

from __future__ import annotations

import re
from typing import Any

import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from autovoice.errors import AutovoiceError
from autovoice.terminal.overrides import nameable, quoted, word, written

_PAIRS = {"[": "]", "{": "}"}


def unparsed(override: str, why: str) -> AutovoiceError:
    """The error for an override, with its value in the quotes that it needs, as a shell takes it."""
    key, equals, value = override.partition("=")
    shown = override or "''"
    if not equals:
        fix = f"{key}=…" if nameable(key) else "as workers=2; what has spaces in quotes for the shell"
        return AutovoiceError(f"{shown}: is no override, which is key=value", fix)
    if not nameable(key.partition("@")[0]):
        fix = "names and dots, as dims.frames.max=512; what is called otherwise is set in its file"
        return AutovoiceError(f"{shown}: '{key}' is no key that an override can name", fix)
    fixes = [word(f"{key}={text}") for text in _readings(key, value)]
    for opening, closing in _PAIRS.items():
        if value.startswith(opening) and value.count(opening) > value.count(closing):
            fact = f"{shown}: opens with {opening} and is not closed"
            fix = f"close it with {closing}, and put the whole override into quotes for the shell"
            return AutovoiceError(fact, f"{fix}; as text: {fixes[-1]}" if fixes else fix)
    return AutovoiceError(f"{shown}: {_reason(why)}", ", or ".join(fixes) or "correct it")


def _reason(why: str) -> str:
    line = next((s.strip() for s in why.splitlines() if s.strip()), "cannot be read")
    if re.match("LexerNoViableAlt|mismatched input|no viable alternative|extraneous input|token recognition", line):
        return "has characters that need quotes, Hydra's own inside those for the shell"
    if line.startswith("Error parsing override"):  # a function's own message stands below
        rest = [s.strip() for s in why.splitlines()[1:] if s.strip()]
        return rest[0] if rest else "cannot be read"
    return line


def _readings(key: str, value: str) -> list[str]:
    """The value as a list or a mapping, where YAML reads it as one, and as text; only what Hydra can read."""
    readings = []
    meant = _structure(value)
    if meant is not None:
        readings.append(written(meant))
    elif "," in value and not re.search(r"[\[\]{}()]", value):
        readings.append(written([_scalar(v) for v in value.split(",")]))
    if meant is None:
        readings.append(quoted(value))
    return [r for r in dict.fromkeys(readings) if _reads(f"{key}={r}")]


def _structure(value: str) -> Any:
    """The list or mapping that a text of brackets means; None where it means none."""
    if value[:1] not in _PAIRS or len(value) > 10_000:
        return None
    try:
        meant = yaml.safe_load(value)
    except (yaml.YAMLError, ValueError, RecursionError):
        return None
    return meant if isinstance(meant, list | dict) and meant and _plain(meant) else None


def _plain(value: Any) -> bool:
    if isinstance(value, dict):
        return all(isinstance(k, str) and nameable(k) and _plain(v) for k, v in value.items())
    if isinstance(value, list):
        return all(_plain(v) for v in value)
    return isinstance(value, str | int | float)


def _scalar(text: str) -> Any:
    value = yaml.safe_load(text) if len(text) < 100 else text
    return value if isinstance(value, int | float) else text.strip()


def _reads(override: str) -> bool:
    try:
        return not OverridesParser.create().parse_override(override).is_sweep_override()
    except HydraException:
        return False
