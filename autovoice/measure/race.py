"""Calls timed in turn, so that what slows the machine slows all of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from autovoice.measure.quiet import quiet_rounds

WARM_UP = 3
ROUNDS = 30
FEWEST = 5
SECONDS = 6.0


def timed_rounds(calls: Mapping[str, Callable[[], Any]]) -> dict[str, list[float]]:
    """Seconds of each call of each: 30 rounds, or as many as 6 s hold, but 5 at least. Nothing else runs meanwhile."""

    def turn() -> dict[str, float]:
        return {name: _seconds(call) for name, call in calls.items()}

    def warm_up() -> None:
        for call in calls.values():
            for _ in range(WARM_UP):
                call()

    rounds = quiet_rounds(turn, lambda n, spent: n >= ROUNDS or (n >= FEWEST and spent > SECONDS), warm_up)
    return {name: [one[name] for one in rounds] for name in calls}


def _seconds(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start
