"""Loaded engines timed in turn, so that what slows the machine slows all of them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from autovoice.backends.base import Session

WARM_UP = 3
ROUNDS = 30
FEWEST = 5
SECONDS = 6.0


def raced(calls: Mapping[str, tuple[Session, Mapping[str, Any]]]) -> dict[str, list[float]]:
    """Seconds of each call of each (session, feeds): 30 rounds, or as many as 6 s hold, but 5 at least."""
    for session, feeds in calls.values():
        for _ in range(WARM_UP):
            session.run(feeds)
    times: dict[str, list[float]] = {name: [] for name in calls}
    end = time.perf_counter() + SECONDS
    for turn in range(ROUNDS):
        for name, (session, feeds) in calls.items():
            start = time.perf_counter()
            session.run(feeds)
            times[name].append(time.perf_counter() - start)
        if turn + 1 >= FEWEST and time.perf_counter() > end:
            break
    return times
