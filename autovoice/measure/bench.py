"""Calls timed one contender after another, each warmed up, as a caller that waits for every answer sees them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import mean, median, stdev

from autovoice.measure.quiet import quiet_rounds


@dataclass(frozen=True)
class Timing:
    """Milliseconds of a call: median, mean, standard deviation, and the 95th percentile."""

    median: float
    mean: float
    std: float
    p95: float
    runs: int


def timed(call: Callable[[], object], warm_up: int, runs: int) -> Timing:
    """`runs` calls after `warm_up` ones that do not count, while nothing else runs."""

    def turn() -> float:
        start = time.perf_counter()
        call()
        return 1000 * (time.perf_counter() - start)

    times = quiet_rounds(turn, lambda n, _: n >= runs, lambda: [call() for _ in range(warm_up)])
    last = sorted(times)[min(len(times) - 1, int(0.95 * len(times)))]
    return Timing(median(times), mean(times), stdev(times) if len(times) > 1 else 0.0, last, runs)
