from __future__ import annotations

from tests.campaigns.running import held


def test_hostile_folders_and_stores() -> None:
    assert "40 rounds" in held("hostile_manifests", "--count", "40", "--seed", "11")
