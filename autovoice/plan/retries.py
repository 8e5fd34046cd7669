"""Retries after a crash of native code: the fields changed, and the record of it.

result["after_crash"] = {"crash": "SIGSEGV", "fields": {"backend": {"options": {…}}}}
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

_KEY = "after_crash"


@dataclass(frozen=True)
class Retry:
    """One more try of a step: after which signal, and with which fields in place of its own."""

    crash: str
    fields: Mapping[str, Any]


def overlaid(fields: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`fields` with what `over` says of them, mapping within mapping."""
    deeper = {k: overlaid(fields[k], v) for k, v in over.items() if isinstance(v, Mapping) and k in fields}
    return {**fields, **over, **deeper}


def recorded(result: Mapping[str, Any], retry: Retry | None) -> dict[str, Any]:
    """What a step gave, and by which retry."""
    return {**result} if retry is None else {**result, _KEY: asdict(retry)}


def retry_of(result: Mapping[str, Any]) -> Retry | None:
    """The retry that made a step's result; None where the step ran as asked."""
    return Retry(**result[_KEY]) if _KEY in result else None


def backend_options(result: Mapping[str, Any]) -> Mapping[str, Any]:
    """The backend options that a build was really made with, where they are not those asked for: load it with them."""
    retry = retry_of(result)
    options: Mapping[str, Any] = retry.fields.get("backend", {}).get("options", {}) if retry else {}
    return options
