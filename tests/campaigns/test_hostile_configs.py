"""Some of the campaign's cases; `python -m tests.campaigns.hostile_configs` runs as many as one likes."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tests.campaigns.hostile_configs import TREE, Case, campaign, case_of, outcome


def test_what_is_mutated_is_accepted_as_it_is(tmp_path: Path) -> None:
    content = b"# @package _global_\n" + yaml.safe_dump(TREE).encode()
    assert outcome(Case(content, ()), tmp_path) == ("ok", "")


@pytest.mark.parametrize("number", range(10))
def test_accepted_or_refused_in_two_lines(tmp_path: Path, number: int) -> None:
    for n in range(3 * number, 3 * number + 3):
        what, words = outcome(case_of(1, n), tmp_path)
        assert what in ("ok", "refused"), f"case {n}: {words}"


def test_dims_of_a_component_beside_one_without_a_name(tmp_path: Path) -> None:
    """Case 840 of seed 0: the nearest of names one of which is null."""
    assert outcome(case_of(0, 840), tmp_path)[0] == "refused"


def test_every_case_is_the_same_again() -> None:
    assert [case_of(3, n) for n in range(20)] == [case_of(3, n) for n in range(20)]


def test_whatever_is_wrong_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """An outcome of another kind reaches the counts and whoever is told."""
    monkeypatch.setattr("tests.campaigns.hostile_configs.SECONDS", 30)
    told: list[int] = []
    counts = campaign(2, 5, lambda number, *_: told.append(number))
    assert sum(counts.values()) == 2
    assert told == []
    assert not counts.keys() - {"ok", "refused"}
