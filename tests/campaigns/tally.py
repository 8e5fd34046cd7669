"""Counts of what came out, and every failure with the command that shows it again."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field


@dataclass
class Tally:
    """`again` is the command line that repeats one round, with `{}` where its number goes."""

    again: str
    counts: Counter[str] = field(default_factory=Counter)
    failures: list[tuple[str, int, str]] = field(default_factory=list)
    start: float = field(default_factory=time.monotonic)

    def note(self, kind: str) -> None:
        """Something that happened, and may."""
        self.counts[kind] += 1

    def fail(self, kind: str, number: int, detail: str) -> None:
        self.failures.append((kind, number, detail))
        print(f"FAILED {kind}, round {number}: {detail}\n  again: {self.again.format(number)}", flush=True)

    def report(self, rounds: int) -> str:
        """The table of counts."""
        failed = Counter(kind for kind, _, _ in self.failures)
        rows = [*sorted(self.counts.items()), *((f"FAILED {k}", n) for k, n in sorted(failed.items()))]
        spent = time.monotonic() - self.start
        bad = len({number for _, number, _ in self.failures})
        head = f"{rounds} rounds in {spent:.0f} s ({spent / max(rounds, 1):.2f} s each), {bad} with failures"
        return "\n".join([head, *(f" {n:6}  {kind}" for kind, n in rows)])
