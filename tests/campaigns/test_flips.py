from __future__ import annotations

from tests.campaigns.running import held


def test_flipped_cut_and_lost_files() -> None:
    assert "12 rounds" in held("flips", "--count", "12", "--seed", "11")
