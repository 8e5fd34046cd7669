"""A small part of what `python -m tests.campaigns.hostile_arrays` does, the same files every time."""

from __future__ import annotations

from collections import Counter

from tests.campaigns import hostile_arrays


def test_no_damaged_file_escapes() -> None:
    found = hostile_arrays.run(60, seed=0)
    assert [(c.kind, c.damage, v.what) for c, v in found if v.outcome == "escaped"] == []
    outcomes = Counter(v.outcome for _, v in found)
    assert outcomes["detected"] >= 30  # damage that no one notices is no test
    assert outcomes.total() == 60


def test_files_that_are_whole_are_read() -> None:
    whole = hostile_arrays.whole_files()
    given = [hostile_arrays.Case(kind, "none", files[0]) for kind, files in whole.items()]
    assert [v for _, v in hostile_arrays.judge_all(given)] == [hostile_arrays.Verdict("harmless")] * len(whole)
