"""Calibration samples against the profile: none outside, and how much of it they cover."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from autovoice.calibration.samples import entries_of
from autovoice.dims.solving import sizes_of
from autovoice.errors import CalibrationError
from autovoice.steps.context import Context

if TYPE_CHECKING:
    from autovoice.steps.fields import CoverageFields


def run(context: Context[CoverageFields]) -> dict[str, Any]:
    """{"samples", "coverage": {dim: {seen: [smallest, largest], profile: [min, max]}}, "notes"}."""
    fields = context.fields
    folder = context.needs["samples"]
    seen: dict[str, list[int]] = {}
    entries = entries_of(folder)
    for entry in entries:
        for dim, size in sizes_of(entry["shapes"], fields["inputs"], fields["dims"]).items():
            _check_inside(entry["name"], dim, size, fields)
            seen.setdefault(dim, []).append(size)
    coverage = {
        dim: {"seen": [min(s), max(s)], "profile": [fields["dims"][dim]["min"], fields["dims"][dim]["max"]]}
        for dim, s in sorted(seen.items())
    }
    return {"samples": len(entries), "coverage": coverage, "notes": _uncovered(coverage)}


def _uncovered(coverage: Mapping[str, Any]) -> list[str]:
    """Dims that vary in the profile and not at all in the samples; a batch of 1 covers any."""
    return [
        f"all samples have {dim} {c['seen'][0]}, the profile {c['profile'][0]} … {c['profile'][1]}"
        for dim, c in coverage.items()
        if c["seen"][0] == c["seen"][1] > 1 and c["profile"][0] < c["profile"][1]
    ]


def _check_inside(sample: str, dim: str, size: int, fields: CoverageFields) -> None:
    d = fields["dims"][dim]
    if d["min"] <= size <= d["max"]:
        return
    point = "min" if size < d["min"] else "max"
    whose = fields["component"] or "the pipeline"
    raise CalibrationError(
        f"calibration of {whose}, sample {sample}: {dim} is {size}, the profile {d['min']} … {d['max']}",
        f"leave it out, or cut it, or dims.{dim}.{point}={size}",
    )
