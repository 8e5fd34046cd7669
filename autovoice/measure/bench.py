"""Calls timed one contender after another, each warmed up, as a caller that waits for every answer sees them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import mean, median, stdev


@dataclass(frozen=True)
class Timing:
    """Milliseconds of a call: median, mean, standard deviation, and the 95th percentile."""

    median: float
    mean: float
    std: float
    p95: float
    runs: int


def timed(call: Callable[[], object], warm_up: int, runs: int) -> Timing:
    """`runs` calls after `warm_up` ones that do not count."""
    for _ in range(warm_up):
        call()
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        call()
        times.append(1000 * (time.perf_counter() - start))
    last = sorted(times)[min(len(times) - 1, int(0.95 * len(times)))]
    return Timing(median(times), mean(times), stdev(times) if len(times) > 1 else 0.0, last, runs)
