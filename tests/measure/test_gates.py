from __future__ import annotations

from typing import Any

import pytest

from autovoice.measure.gates import judged_value, least_snr, meaningless, worst

NOTHING: dict[str, Any] = {"snr_db": None, "cosine": None, "scaled_db": 130.0}
REPORT: dict[str, dict[str, dict[str, Any]]] = {
    "min": {"a": {"snr_db": 40.0, "max_abs": 0.1}, "b": NOTHING},
    "max": {"a": {"snr_db": 30.0, "max_abs": 0.0, "lsd_db": None}, "b": {"snr_db": 90.0, "cosine": None, "equal": 0.9}},
}


def test_where_a_metric_is_worst() -> None:
    assert worst(REPORT, "snr_db") == ("max", "a", REPORT["max"]["a"])
    assert worst(REPORT, "max_abs") == ("min", "a", REPORT["min"]["a"])
    assert worst(REPORT, "lsd_db") is None
    assert worst(REPORT, "mcd_db") is None


def test_what_a_gate_looks_at_where_a_ratio_means_nothing() -> None:
    assert judged_value(NOTHING, "snr_db") == 130
    assert judged_value(NOTHING, "cosine") is None
    assert judged_value({}, "snr_db") is None


@pytest.mark.parametrize(
    ("report", "db"), [(REPORT, 30), ({"min": {"b": NOTHING}}, 130), ({"min": {"b": {"snr_db": None}}}, 200)]
)
def test_the_smallest_snr(report: Any, db: float) -> None:
    assert least_snr(report) == db


def test_where_a_metric_says_nothing() -> None:
    assert meaningless(REPORT, "snr_db") == {"b": ["min"]}
    assert meaningless(REPORT, "cosine") == {"b": ["min"]}  # not of labels, which have none
    assert meaningless(REPORT, "lsd_db") == {"a": ["max"]}
    assert meaningless(REPORT, "mcd_db") == {}
