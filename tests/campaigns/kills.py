"""Builds that are killed: nothing is lost, the next run completes, the published folder loads at every moment.

    python -m tests.campaigns.kills --count 1000 --seed 0          kills at random moments
    python -m tests.campaigns.kills --operations all               a kill at every file operation, for each scenario
    python -m tests.campaigns.kills --operations 40 --seed 0       at some of them

Every round changes the project, so that the build has something to do and to publish over what was published before.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random

import numpy as np
import psutil

from tests.campaigns.children import Child, Command, forked, preload
from tests.campaigns.operations.sitecustomize import LINE, install
from tests.campaigns.small import Build, Small, feeds, matches, random_build
from tests.campaigns.tally import Tally

VICTIMS = ("driver", "group", "worker", "fork_server")
_HOOK = Path(__file__).parent / "operations"
#: rounds after which the project starts anew: a store that only grows makes each round slower
_FRESH = 50
#: what is built before, and what over it, where every operation is struck
SCENARIOS = {
    "first": (None, Build(1.5, 0.3)),
    "over": (Build(1.5, 0.3, extra=True), Build(2.5, -0.4)),
    "restored": (Build(1.5, 0.3), Build(1.5, 0.3)),
}


# -- looking at a published folder -----------------------------------------------------------------


def loaded(folder: Path) -> dict[str, np.ndarray]:
    from autovoice import Pipeline

    with Pipeline.load(folder) as pipeline:
        return dict(pipeline.run(feeds()))


def fault(folder: Path, allowed: Sequence[Build], absent: bool = False) -> str | None:
    """What is wrong with a published folder that has to be one of these builds, or, where `absent`, may be none."""
    ended = forked(lambda: loaded(folder))
    if ended.how == "returned":
        return None if any(matches(b, ended.value) for b in allowed) else f"wrong values {_shown(ended.value)}"
    if absent and ended.how == "refused" and not (folder / "manifest.json").exists():
        return None
    return ended.why


def _shown(got: dict[str, np.ndarray]) -> str:
    return ", ".join(f"{n} {a.ravel()[:2]}" for n, a in got.items())


class Reader:
    """Another process that loads a folder again and again until it is stopped."""

    def __init__(self, folder: Path, allowed: Sequence[Build]) -> None:
        self._parent, self._stop = os.getpid(), Path(tempfile.mkdtemp()) / "stop"
        self._child = Child(lambda: self._loop(folder, allowed))

    def _loop(self, folder: Path, allowed: Sequence[Build]) -> tuple[int, list[str]]:
        loads, faults = 0, []
        while not self._stop.exists() and os.getppid() == self._parent:
            try:
                got = loaded(folder)
                if not any(matches(b, got) for b in allowed):
                    faults.append(f"wrong values {_shown(got)}")
            except Exception as e:
                faults.append(f"{type(e).__name__}: {e}")
            loads += 1
            time.sleep(0.002)
        return loads, faults

    def stop(self) -> tuple[int, list[str]]:
        """(how often it loaded, what was wrong then)."""
        self._stop.touch()
        ended = self._child.ended()
        shutil.rmtree(self._stop.parent)
        return ended.value if ended.how == "returned" else (0, [ended.why])


# -- a round ---------------------------------------------------------------------------------------


@dataclass
class Rounds:
    """The project, and what was last published in each of its folders."""

    project: Small
    tally: Tally
    published: dict[Path, Build] = field(default_factory=dict)
    sound: set[Path] = field(default_factory=set)

    def builds(self, build: Build) -> tuple[int | None, str, str]:
        """A run that nobody strikes."""
        self.project.write(build)
        return Command(self.project.root, self.project.arguments(build)).finished()

    def after_kill(self, number: int, build: Build, said: tuple[int | None, str, str]) -> None:
        """Right away: the output tells no traceback, the folder loads, the store is whole."""
        folder, before = self.project.folder(build), self.published.get(self.project.folder(build))
        code, out, err = said
        if code is None:
            self.tally.fail("the killed command hangs", number, (out + err)[-500:])
        if "Traceback" in out + err:
            self.tally.fail("traceback after a kill", number, (out + err)[-2000:])
        allowed = [build, *([before] if before else [])]
        wrong = fault(folder, allowed, absent=before is None)
        if wrong:
            self.tally.fail("published folder does not load after a kill", number, wrong)
        for broken in self.project.broken_artefacts(self.sound):
            self.tally.fail("broken artefact after a kill", number, broken)

    def next_run(self, number: int, build: Build) -> None:
        """The same command once more completes, its values are right, and nothing is left over."""
        code, out, err = self.builds(build)
        if code is None:
            self.tally.fail("next run hangs", number, (out + err)[-500:])
        elif code:
            self.tally.fail("next run fails", number, f"exit code {code}: {(out + err)[-2000:]}")
        else:
            self.published[self.project.folder(build)] = build
        wrong = fault(self.project.folder(build), [build])
        if wrong:
            self.tally.fail("published folder is wrong after the next run", number, wrong)
        for broken in self.project.broken_artefacts(self.sound):
            self.tally.fail("broken artefact after the next run", number, broken)
        left = self.project.leftovers()
        if left:
            self.tally.fail("left over after the next run", number, ", ".join(left[:5]))
            for path in left:
                _remove(self.project.root / path)


def _remove(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)


# -- random moments --------------------------------------------------------------------------------


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
                os.killpg(process.pid, signal.SIGKILL)
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


def random_kills(root: Path, count: int, seed: int, first: int = 0, workers: int = 2) -> Tally:
    """`count` rounds from number `first` on, each after two builds that are left in peace."""
    again = f"python -m tests.campaigns.kills --count 1 --seed {seed} --first {{}} --workers {workers}"
    tally, rounds, typical = Tally(again), None, 0.0
    for number in range(first, first + count):
        if rounds is None or number % _FRESH == 0:
            shutil.rmtree(root / "project", ignore_errors=True)
            rounds = Rounds(Small(root / "project"), tally)
            for earlier in (replace(of_round(seed, number - 1)[0], precision=p) for p in ("fp16", "fp32")):
                start = time.monotonic()
                code, out, err = rounds.builds(earlier)
                assert code == 0, out + err
                typical = time.monotonic() - start
                rounds.published[rounds.project.folder(earlier)] = earlier
        random_round(rounds, seed, number, typical, workers)
    return tally


# -- every operation -------------------------------------------------------------------------------


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
    rounds = Rounds(Small(root), Tally(""))
    if before is not None:
        code, out, err = rounds.builds(before)
        assert code == 0, out + err
    if before == build:  # published, and then lost: what the store holds is linked to its place again
        shutil.rmtree(rounds.project.folder(build))
    rounds.project.write(build)
    return rounds


def operation_kills(root: Path, scenario: str, whom: str, chosen: Callable[[int], Sequence[int]]) -> Tally:
    """A round for each of the operations `chosen` out of their number, and all of them where a run does more."""
    again = f"python -m tests.campaigns.kills --operations 1 --first {{}} --scenario {scenario} --whom {whom}"
    tally = Tally(again)
    before, build = SCENARIOS[scenario]
    base = prepared(root / "base", scenario).project
    project, log = Small(root / "project"), root / "operations"
    whole = struck_at(base.copy_to(project.root), build, 0, whom, log)
    assert whole.said[0] == 0, whole.said
    tally.counts[f"operations of {scenario}"] = len(whole.operations)
    for number in chosen(len(whole.operations)):
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


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=0, help="rounds with a kill at a random moment")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=None, help="the first round's number, or the operation")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--operations", default="0", help="how many file operations are struck, or all")
    parser.add_argument("--last", type=int, help="only of the last so many operations: publishing comes at the end")
    parser.add_argument("--scenario", choices=SCENARIOS)
    parser.add_argument("--whom", choices=("self", "group"))
    options = parser.parse_args()
    preload()
    failures = 0
    root = Path(tempfile.mkdtemp(prefix="kills-"))
    try:
        if options.count:
            tally = random_kills(root, options.count, options.seed, options.first or 0, options.workers)
            print(tally.report(options.count), flush=True)
            failures += len(tally.failures)
        if options.operations != "0":
            failures += _operations(root, options)
    finally:
        shutil.rmtree(root)
    return 1 if failures else 0


def _operations(root: Path, options: argparse.Namespace) -> int:
    rng, failures = Random(options.seed), 0

    def chosen(n: int) -> Sequence[int]:
        every = range(max(1, n + 1 - options.last) if options.last else 1, n + 1)
        if options.first is not None:
            return [options.first]
        return (
            every
            if options.operations == "all"
            else sorted(rng.sample(every, min(len(every), int(options.operations))))
        )

    for scenario in [options.scenario] if options.scenario else SCENARIOS:
        for whom in [options.whom] if options.whom else ("group", "self"):
            shutil.rmtree(root / "base", ignore_errors=True)
            tally = operation_kills(root, scenario, whom, chosen)
            rounds = sum(n for kind, n in tally.counts.items() if kind.startswith(("struck", "survived")))
            print(f"{scenario}, {whom}: {tally.report(rounds)}", flush=True)
            failures += len(tally.failures)
    return failures


if __name__ == "__main__":
    raise SystemExit(main())
