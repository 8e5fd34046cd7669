"""Ctrl-C at random moments of a start: how often a traceback shows, and how long the command takes to end.

    python tests/campaigns/interrupts.py --count 100 --within 2 --seed 0 -- task=build

Each command runs in a process group of its own, as from a terminal, with outputs of its own.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

LONGEST = 60.0


@dataclass(frozen=True)
class Interrupted:
    """How a command ended that was interrupted after `offset` seconds; None where it had ended before."""

    offset: float
    code: int
    seconds: float | None
    out: str
    err: str

    @property
    def traceback(self) -> bool:
        return "Traceback" in self.out + self.err or "Exception ignored" in self.err


def heeds_interrupts() -> None:
    """As from a terminal: what a shell starts in the background ignores SIGINT, and so does all that it starts."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def catches(pid: int, number: int) -> bool:
    """Whether a process has a handler of its own for a signal."""
    (mask,) = (line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("SigCgt:"))
    return bool(int(mask.split()[1], 16) >> (number - 1) & 1)


def interrupted(
    arguments: Sequence[str],
    offset: float,
    folder: Path,
    ready: bool = False,
    environment: Mapping[str, str] | None = None,
) -> Interrupted:
    """One command, struck once; with `ready` the offset counts from when Python has come to the command's own code."""
    command = [sys.executable, "-m", "autovoice", *arguments]
    with subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=heeds_interrupts,
    ) as process:
        try:
            while ready and not catches(process.pid, signal.SIGTERM):
                time.sleep(0.005)
            process.wait(offset)
            seconds = None
        except subprocess.TimeoutExpired:
            begin = time.monotonic()
            os.killpg(process.pid, signal.SIGINT)
            process.wait(LONGEST)
            seconds = time.monotonic() - begin
        finally:
            process.kill()
        out, err = process.communicate()
    return Interrupted(offset, process.returncode, seconds, out, err)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--within", type=float, default=2.0, help="seconds")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("arguments", nargs="*")
    given = parser.parse_args()
    moments, found = random.Random(given.seed), []
    for _ in range(given.count):
        with tempfile.TemporaryDirectory() as folder:
            arguments = [*given.arguments, f"paths.outputs={folder}/outputs"]
            found.append(interrupted(arguments, moments.uniform(0, given.within), Path(folder)))
    struck = [f for f in found if f.seconds is not None]
    slow = sorted(f.seconds for f in struck if f.seconds is not None)
    print(f"{len(struck)} of {len(found)} were still running; exit codes {dict(Counter(f.code for f in struck))}")
    print(f"tracebacks {sum(f.traceback for f in struck)}; seconds to end: median {slow[len(slow) // 2]:.2f}, ", end="")
    print(f"longest {slow[-1]:.2f}, over a second {sum(s > 1 for s in slow)}")
    for one in struck:
        if one.traceback or one.code != 130 or (one.seconds or 0) > 1:
            print(f"\nafter {one.offset:.3f} s: {one.code}, {one.seconds:.2f} s\n{one.err[-600:]}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
