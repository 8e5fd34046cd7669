from __future__ import annotations

import pytest

from tests.campaigns.running import held


def test_kills_at_random_moments() -> None:
    assert "6 rounds" in held("kills", "--count", "6", "--seed", "11")


@pytest.mark.parametrize("whom", ["group", "self"])
def test_kills_while_a_build_is_published_over_another(whom: str) -> None:
    out = held("kills", "--operations", "4", "--last", "40", "--scenario", "over", "--whom", whom, "--seed", "11")
    assert "4 rounds" in out
