"""Calls timed in turn, so that what slows the machine slows all of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

WARM_UP = 3
ROUNDS = 30
FEWEST = 5
SECONDS = 6.0


def raced(calls: Mapping[str, Callable[[], Any]]) -> dict[str, list[float]]:
    """Seconds of each call of each: 30 rounds, or as many as 6 s hold, but 5 at least."""
    for call in calls.values():
        for _ in range(WARM_UP):
            call()
    times: dict[str, list[float]] = {name: [] for name in calls}
    end = time.perf_counter() + SECONDS
    for turn in range(ROUNDS):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - start)
        if turn + 1 >= FEWEST and time.perf_counter() > end:
            break
    return times
