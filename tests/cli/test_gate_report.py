"""`gate=report`: what misses a threshold is published nevertheless, and nobody can overlook it."""

from __future__ import annotations

import json
from typing import Any

from tests.conftest import Project

HIGH = ("gate.component.snr_db.fp32=500", "gate.end_to_end.snr_db.fp32=500")


def published(project: Project, out: str) -> dict[str, Any]:
    """The manifest that a build's last line names."""
    data: dict[str, Any] = json.loads((project.root / out.splitlines()[-1].split("→ ")[-1]).read_bytes())
    return data


def test_what_is_missed_is_published_and_marked(toy: Project) -> None:
    before = {p.name for p in (toy.outputs / "chime").iterdir()}
    assert "the gate asks ≥ 500" in toy.fails(*HIGH)
    assert {p.name for p in (toy.outputs / "chime").iterdir()} == before
    out = toy.ok("gate=report", *HIGH)
    (row,) = (line for line in out.splitlines() if line.startswith(" end to end"))
    assert " < 500, not met" in row or "identical" in row
    assert "gate not met: snr_db " in out
    found = published(toy, out)
    assert found["end_to_end"]["missed"]
    assert all("the gate asks ≥ 500" in text for text in found["end_to_end"]["missed"])
    assert [c["name"] for c in found["components"] if "missed" in c]


def test_what_meets_its_gates_is_not_marked(toy: Project) -> None:
    out = toy.ok("gate=report")
    assert "not met" not in out
    found = published(toy, out)
    assert found["end_to_end"]["missed"] == []
    assert not any("missed" in c for c in found["components"])
