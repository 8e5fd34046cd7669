"""Counts of what came out, and every failure with the command that shows it again."""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.campaigns.children import preload


@dataclass
class Tally:
    """`again` is the command line that repeats one round, with `{}` where its number goes."""

    again: str
    minutes: float = float("inf")
    counts: Counter[str] = field(default_factory=Counter)
    failures: list[tuple[str, int, str]] = field(default_factory=list)
    done: int = 0
    start: float = field(default_factory=time.monotonic)

    def rounds(self, numbers: Iterable[int]) -> Iterator[int]:
        """These numbers one by one, as long as there is time."""
        for number in numbers:
            if time.monotonic() - self.start > self.minutes * 60:
                print(f"stopped after {self.minutes:g} minutes, before round {number}")
                return
            yield number
            self.done += 1

    def note(self, kind: str) -> None:
        """Something that happened, and may."""
        self.counts[kind] += 1

    def fail(self, kind: str, number: int, detail: str) -> None:
        self.failures.append((kind, number, detail))
        print(f"FAILED {kind}, round {number}: {detail}\n  again: {self.again.format(number)}", flush=True)

    def report(self) -> str:
        """The table of counts."""
        failed = Counter(kind for kind, _, _ in self.failures)
        rows = [*sorted(self.counts.items()), *((f"FAILED {k}", n) for k, n in sorted(failed.items()))]
        spent = time.monotonic() - self.start
        bad = len({number for _, number, _ in self.failures})
        head = f"{self.done} rounds in {spent:.0f} s ({spent / max(self.done, 1):.2f} s each), {bad} with failures"
        return "\n".join([head, *(f" {n:6}  {kind}" for kind, n in rows)])


def parser(doc: str | None, count: int) -> argparse.ArgumentParser:
    """What every campaign understands."""
    made = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--count", type=int, default=count, help="rounds")
    made.add_argument("--seed", type=int, default=0)
    made.add_argument("--first", type=int, default=0, help="the first round's number")
    made.add_argument("--minutes", type=float, default=float("inf"), help="stop after that time")
    return made


def held(campaigns: Callable[[Path], Iterable[Tally]]) -> int:
    """Run campaigns in a folder of their own, and print what came out; the exit code."""
    preload()
    root, failures = Path(tempfile.mkdtemp(prefix="campaign-")), 0
    try:
        for tally in campaigns(root):
            print(tally.report(), flush=True)
            failures += len(tally.failures)
    finally:
        shutil.rmtree(root, ignore_errors=True)  # what was killed may still be writing
    return 1 if failures else 0
