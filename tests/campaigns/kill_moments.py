"""Kills at random moments of a build."""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import time
from dataclasses import replace
from pathlib import Path
from random import Random

import psutil

from tests.campaigns.children import Command
from tests.campaigns.kill_rounds import Reader, Rounds
from tests.campaigns.small import Build, Small, random_build
from tests.campaigns.tally import Tally

VICTIMS = ("driver", "group", "worker", "fork_server")
#: rounds after which the project starts anew: a store that only grows makes each round slower
_FRESH = 50


def of_round(seed: int, number: int) -> tuple[Build, str, float]:
    """(what is built, who is struck, when as a share of a build's time), by the round alone."""
    rng = Random(f"{seed}-{number}")
    return random_build(rng), rng.choice(VICTIMS), rng.random()


def strike(process: Command, victim: str, seconds: float) -> str:
    """Kill after that time, or as soon as there is such a process; who was struck, `nobody` where all was over."""
    end = time.monotonic() + seconds
    while process.poll() is None:
        if time.monotonic() >= end:
            if victim == "group":
                try:
                    os.killpg(process.pid, signal.SIGKILL)
                except ProcessLookupError:  # it ended just now
                    return "nobody"
                return victim
            found = [p for p in family(process.pid).get(victim, ()) if p.is_running()]
            if found:
                found[0].kill()
                return victim
        time.sleep(0.002)
    return "nobody"


def family(pid: int) -> dict[str, list[psutil.Process]]:
    """A driver's processes by what they are."""
    try:
        driver = psutil.Process(pid)
        servers = [p for p in driver.children() if any("forkserver" in a for a in p.cmdline())]
        return {
            "driver": [driver],
            "fork_server": servers,
            "worker": [w for s in servers for w in s.children()],
        }
    except psutil.NoSuchProcess:
        return {}


def outlived(group: int, seconds: float = 10) -> list[str]:
    """Processes of a command that are still there after that time."""
    end = time.monotonic() + seconds
    while alive := [p for p in psutil.process_iter(["status"]) if _of(p, group)]:
        if time.monotonic() > end:
            return [f"{p.pid} {' '.join(p.cmdline())[:80]}" for p in alive]
        time.sleep(0.01)
    return []


def _of(process: psutil.Process, group: int) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE and os.getpgid(process.pid) == group
    except (psutil.NoSuchProcess, ProcessLookupError):
        return False


def random_round(rounds: Rounds, seed: int, number: int, typical: float, workers: int) -> None:
    build, victim, share = of_round(seed, number)
    project, folder = rounds.project, rounds.project.folder(build)
    before = rounds.published.get(folder)
    project.write(build)
    reader = Reader(folder, [build, *([before] if before else [])])
    process = Command(project.root, [*project.arguments(build), f"workers={workers}"])
    struck = strike(process, victim, share * typical)
    said = process.finished()
    loads, faults = reader.stop()
    rounds.tally.note(f"struck: {struck}")
    rounds.tally.counts["loads meanwhile"] += loads
    left = outlived(process.pid)
    if left:
        rounds.tally.fail("processes outlive the command", number, "; ".join(left))
        os.killpg(process.pid, signal.SIGKILL)
    if faults and before is not None:
        rounds.tally.fail("folder does not load while a build runs", number, f"{len(faults)} of {loads}: {faults[0]}")
    if struck in ("nobody", "worker", "fork_server") and said[0] not in (0, 1, None):
        rounds.tally.fail("exit code of a driver that was not struck", number, f"{said[0]}: {said[2][-1000:]}")
    if struck == "nobody" and said[0]:
        rounds.tally.fail("run fails", number, said[2][-1000:])
    rounds.after_kill(number, build, said)
    rounds.next_run(number, build)


def random_kills(root: Path, options: argparse.Namespace) -> Tally:
    """Rounds one after the other; the first and every fiftieth begin with two builds that are left in peace."""
    seed, workers = options.seed, options.workers
    again = f"python -m tests.campaigns.kills --count 1 --seed {seed} --first {{}} --workers {workers}"
    tally = Tally(again, options.minutes)
    rounds, typical = None, 0.0
    for number in tally.rounds(range(options.first, options.first + options.count)):
        if rounds is None or number % _FRESH == 0:
            shutil.rmtree(root / "project", ignore_errors=True)
            rounds = Rounds(Small(root / "project"), tally)
            for precision in ("fp16", "fp32"):
                typical = rounds.in_peace(replace(of_round(seed, number - 1)[0], precision=precision))
        random_round(rounds, seed, number, typical, workers)
    return tally
