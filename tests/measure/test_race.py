"""Calls timed in turn."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable

import pytest

from autovoice.measure import race
from autovoice.measure.race import FEWEST, ROUNDS, WARM_UP, timed_rounds


def named(heard: list[str], names: str = "ab") -> dict[str, Callable[[], None]]:
    return {name: (lambda name=name: heard.append(name)) for name in names}


def test_warm_up_comes_first_and_then_one_after_another() -> None:
    heard: list[str] = []
    timed_rounds(named(heard))
    assert "".join(heard) == "a" * WARM_UP + "b" * WARM_UP + "ab" * ROUNDS


def test_every_timed_call_has_a_time_and_the_warm_up_has_none() -> None:
    heard: list[str] = []
    times = timed_rounds(named(heard, "abc"))
    assert list(times) == ["a", "b", "c"]
    assert {name: len(t) for name, t in times.items()} == {name: heard.count(name) - WARM_UP for name in "abc"}
    assert all(t >= 0 for of_one in times.values() for t in of_one)


def test_the_times_are_those_of_each_call_alone() -> None:
    times = timed_rounds({"slow": lambda: time.sleep(0.004), "fast": lambda: None})
    assert min(times["slow"]) >= 0.004
    assert sorted(times["fast"])[ROUNDS // 2] < 0.002


def test_calls_too_slow_for_all_rounds_get_the_fewest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(race, "SECONDS", 0.0)
    heard: list[str] = []
    times = timed_rounds(named(heard))
    assert {name: len(t) for name, t in times.items()} == {"a": FEWEST, "b": FEWEST}
    assert Counter(heard) == {"a": WARM_UP + FEWEST, "b": WARM_UP + FEWEST}


def test_rounds_end_when_the_time_is_over_and_never_within_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(race, "SECONDS", 0.1)
    times = timed_rounds({name: lambda: time.sleep(0.005) for name in "ab"})  # 10 ms a round: the eleventh is the last
    assert FEWEST <= len(times["a"]) <= 11
    assert len(times["a"]) == len(times["b"])
