"""Kills before file operations, which a hook in every process of the command counts."""

from __future__ import annotations

import argparse
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

from tests.campaigns.children import Command
from tests.campaigns.kill_moments import outlived
from tests.campaigns.kill_rounds import Rounds
from tests.campaigns.operations.sitecustomize import LINE, install
from tests.campaigns.small import Build, Small
from tests.campaigns.tally import Tally

_HOOK = Path(__file__).parent / "operations"
#: what is built before, and what over it, where every operation is struck
SCENARIOS = {
    "first": (None, Build(1.5, 0.3)),
    "over": (Build(1.5, 0.3, extra=True), Build(2.5, -0.4)),
    "restored": (Build(1.5, 0.3), Build(1.5, 0.3)),
}


@dataclass(frozen=True)
class Struck:
    """A command that died at an operation, or did all of them."""

    said: tuple[int | None, str, str]
    operations: list[str]


def struck_at(project: Small, build: Build, at: int, whom: str, log: Path) -> Struck:
    """Run the command until its operation number `at`, counted from 1 over all its processes."""
    log.unlink(missing_ok=True)
    environment = {"LOG": str(log), "ROOT": str(project.outputs), "AT": str(at), "WHOM": whom}

    def watched() -> None:
        os.environ |= {"PYTHONPATH": str(_HOOK), **{f"CAMPAIGN_{n}": v for n, v in environment.items()}}
        install()

    process = Command(project.root, [*project.arguments(build), "workers=1"], watched)
    said = process.finished()
    text = log.read_text() if log.exists() else ""
    assert len(text) % LINE == 0
    outlived(process.pid)
    return Struck(said, [line.strip() for line in text.splitlines()])


def prepared(root: Path, scenario: str) -> Rounds:
    """The project as it is before each strike."""
    before, build = SCENARIOS[scenario]
    shutil.rmtree(root, ignore_errors=True)
    rounds = Rounds(Small(root), Tally(""))
    if before is not None:
        rounds.in_peace(before)
    if before == build:  # published, and then lost: what the store holds is linked to its place again
        shutil.rmtree(rounds.project.folder(build))
    rounds.project.write(build)
    return rounds


def operation_kills(root: Path, scenario: str, whom: str, options: argparse.Namespace) -> Tally:
    """A round for each of the operations that are chosen."""
    again = f"python -m tests.campaigns.kills --operations 1 --first {{}} --scenario {scenario} --whom {whom}"
    tally = Tally(again, options.minutes)
    before, build = SCENARIOS[scenario]
    base = prepared(root / "base", scenario).project
    project, log = Small(root / "project"), root / "operations"
    whole = struck_at(base.copy_to(project.root), build, 0, whom, log)
    assert whole.said[0] == 0, whole.said
    tally.counts[f"operations there are in {scenario}, {whom} struck"] = len(whole.operations)
    for number in tally.rounds(_chosen(len(whole.operations), options)):
        base.copy_to(project.root)
        published = {} if before in (None, build) else {project.folder(build): before}
        rounds = Rounds(project, tally, published)
        struck = struck_at(project, build, number, whom, log)
        done = struck.said[0] == 0
        tally.note("survived" if done else f"struck before {struck.operations[-1].split()[1]}")
        failed = len(tally.failures)
        rounds.after_kill(number, build, struck.said)
        rounds.next_run(number, build)
        if len(tally.failures) > failed:
            print(f"  at operation: {struck.operations[number - 1 : number]}", flush=True)
    return tally


def _chosen(n: int, options: argparse.Namespace) -> Sequence[int]:
    """Which of `n` operations are struck."""
    if options.first:
        return [options.first]
    every = range(max(1, n + 1 - (options.last or n)), n + 1)
    if options.operations == "all":
        return every
    return sorted(Random(options.seed).sample(every, min(len(every), int(options.operations))))
