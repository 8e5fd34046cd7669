"""Files below `outputs` that are flipped, cut or lost: detected, or harmless.

    python -m tests.campaigns.flips --count 1000 --seed 0

Each round damages one file of a built project. The published folder then loads with right values or is refused in two
lines; the next build completes, and its folder is what a build of an undamaged project publishes, to the byte.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

from tests.campaigns.children import Ended, command, forked
from tests.campaigns.damage import damage
from tests.campaigns.kill_rounds import fault, loaded
from tests.campaigns.small import Build, Small, matches
from tests.campaigns.tally import Tally, held, parser

BUILT = Build(1.5, 0.3, extra=True)
#: what is built after the damage: the same, the other precision, or what reuses some of it and makes the rest anew
NEXT = {"same": BUILT, "fp16": replace(BUILT, precision="fp16"), "longer": replace(BUILT, longest=14)}


def builds(project: Small, build: Build) -> Ended:
    project.write(build)
    return forked(command(project.root, project.arguments(build)), 60)


def published(project: Small, build: Build) -> dict[str, Any]:
    """A folder's content, its manifest as data and without its time."""
    found: dict[str, Any] = {}
    for path in sorted(project.folder(build).iterdir()):
        if path.name == "manifest.json":
            data = json.loads(path.read_bytes())
            found[path.name] = {k: v for k, v in data.items() if k not in TIMED}
        else:
            found[path.name] = path.read_bytes()
    return found


#: of a manifest, what differs from build to build
TIMED = ("created", "digest")


def difference(got: Any, wanted: Any, where: str = "") -> str | None:
    """The first place where two pieces of data differ."""
    if isinstance(got, dict) and isinstance(wanted, dict):
        for key in [*wanted, *(k for k in got if k not in wanted)]:
            if key not in got or key not in wanted:
                return f"{where}/{key} is {'absent' if key in wanted else 'too much'}"
            found = difference(got[key], wanted[key], f"{where}/{key}")
            if found:
                return found
        return None
    if isinstance(got, list) and isinstance(wanted, list) and len(got) == len(wanted):
        pairs = enumerate(zip(got, wanted, strict=True))
        return next((d for i, (a, b) in pairs if (d := difference(a, b, f"{where}/{i}"))), None)
    return None if got == wanted else f"{where}: {str(got)[:80]!r}, not {str(wanted)[:80]!r}"


class Flips:
    """The project as built, and what an undamaged one comes to by each of the next builds."""

    def __init__(self, root: Path, tally: Tally) -> None:
        self.project, self.base, self.tally = Small(root / "project"), Small(root / "base"), tally
        for build in (replace(BUILT, precision="fp16"), BUILT):
            self._builds_well(build)
        self.project.copy_to(self.base.root)
        self.wanted = {}
        for name, build in NEXT.items():
            self.restore()
            self._builds_well(build)
            self.wanted[name] = published(self.project, build)

    def restore(self) -> None:
        """The project as built; what it remembers of its files is right again too."""
        self.base.copy_to(self.project.root)
        self._builds_well(BUILT)

    def _builds_well(self, build: Build) -> None:
        ended = builds(self.project, build)
        assert ended.how == "returned", ended
        assert not ended.value, ended
        wrong = fault(self.project.folder(build), [build])
        assert wrong is None, wrong

    def round(self, seed: int, number: int, kind: str | None = None) -> None:
        rng = Random(f"{seed}-{number}")
        self.restore()
        kind, what = damage(self.project, rng, kind)
        self.tally.note(f"damaged: {kind}")
        if rng.random() < 0.5:  # a load that refuses a file tells the next build of it
            self.load(number, f"{kind}: {what}")
            what += ", loaded first"
        name = rng.choice(["same", "same", "fp16", "longer"])
        self.build(number, name, f"then {name}; {kind}: {what}")

    def load(self, number: int, what: str) -> None:
        for build in (BUILT, NEXT["fp16"]):
            folder = self.project.folder(build)
            ended = forked(lambda folder=folder: loaded(folder))
            if ended.how == "returned" and matches(build, ended.value):
                self.tally.note("loads right")
            elif ended.how == "returned":
                self.tally.fail("loads with wrong values", number, what)
            elif ended.how == "refused" and len(ended.value.splitlines()) == 2:
                self.tally.note("load refused")
            else:
                self.tally.fail(f"load {ended.how}", number, f"{ended.value}; {what}")

    def build(self, number: int, name: str, what: str) -> None:
        build = NEXT[name]
        ended = builds(self.project, build)
        if ended.how == "returned" and ended.value:
            kind = "asks to be run again" if "run the same command again" in ended.said else "fails"
            self.tally.fail(f"next build {kind}", number, f"{ended.said[-400:]}; {what}")
            ended = builds(self.project, build)
            if ended.how == "returned" and ended.value:
                self.tally.fail("build after the next fails", number, f"{ended.said[-400:]}; {what}")
                return
        if ended.how != "returned" or "Traceback" in ended.said:
            self.tally.fail(f"next build {ended.how}", number, f"{ended.value} {ended.said[-1500:]}; {what}")
            return
        self.tally.note("nothing to do" if "nothing to do" in ended.said else "built or restored")
        done = "'nothing to do'" if "nothing to do" in ended.said else "a build"
        differs = difference(published(self.project, build), self.wanted[name])
        if differs:
            self.tally.fail(f"{done} leaves a folder that differs", number, f"{differs}; {what}")
        wrong = fault(self.project.folder(build), [build])
        if wrong:
            self.tally.fail(f"{done} leaves a folder that does not load", number, f"{wrong}; {what}")


def flips(root: Path, options: argparse.Namespace) -> Tally:
    again = f"python -m tests.campaigns.flips --count 1 --seed {options.seed} --first {{}}"
    again += f" --kind '{options.kind}'" if options.kind else ""
    tally = Tally(again, options.minutes)
    one = Flips(root, tally)
    for number in tally.rounds(range(options.first, options.first + options.count)):
        one.round(options.seed, number, options.kind)
    return tally


def main() -> int:
    options = _parser().parse_args()
    return held(lambda root: [flips(root, options)])


def _parser() -> argparse.ArgumentParser:
    made = parser(__doc__, 1000)
    made.add_argument("--kind", help="damage files of this kind alone: record, artefact, 'published engine' …")
    return made


if __name__ == "__main__":
    raise SystemExit(main())
