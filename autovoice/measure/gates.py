"""Parities against thresholds. Plain data alone, so that whoever reads a manifest needs no numpy for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from autovoice.spec import ERRORS, SNR_EQUAL

#: {point: {wire: {metric: value}}}
Report = Mapping[str, Mapping[str, Mapping[str, Any]]]


def judged_value(parity: Mapping[str, Any], metric: str) -> float | None:
    """What a gate on `metric` looks at; None where the tensor does not have it, or it is not meaningful."""
    value: float | None = parity.get(metric)
    return parity.get("scaled_db") if value is None and metric == "snr_db" else value


def misses(parity: Mapping[str, Any], gates: Mapping[str, float]) -> dict[str, float]:
    """The gates that are not met: {metric: threshold}."""
    return {
        metric: threshold
        for metric, threshold in gates.items()
        if (value := judged_value(parity, metric)) is not None
        and (value > threshold if metric in ERRORS else value < threshold)
    }


def worst(report: Report, metric: str) -> tuple[str, str, Mapping[str, Any]] | None:
    """(point, wire, parity) where a metric is worst; None where no tensor has it."""
    entries = [(point, wire, p) for point, wires in report.items() for wire, p in wires.items()]
    values = {i: v for i, (_, _, p) in enumerate(entries) if (v := judged_value(p, metric)) is not None}
    if not values:
        return None
    pick = max if metric in ERRORS else min
    return entries[pick(values, key=lambda i: values[i])]


def least_snr(report: Report) -> float:
    """The smallest SNR, as gates look at it: 200 dB where nothing differs."""
    found = worst(report, "snr_db")
    value = judged_value(found[2], "snr_db") if found else None
    return SNR_EQUAL if value is None else value


def meaningless(report: Report, metric: str) -> dict[str, list[str]]:
    """{wire: points} where the metric was tried and says nothing."""
    found: dict[str, list[str]] = {}
    for point, wires in report.items():
        for wire, parity in wires.items():
            if (
                metric in parity
                and parity[metric] is None
                and not (metric == "cosine" and parity.get("equal") is not None)
            ):
                found.setdefault(wire, []).append(point)
    return found
