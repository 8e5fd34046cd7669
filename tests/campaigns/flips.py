"""Files below `outputs` that are flipped, cut or lost: detected, or harmless.

    python -m tests.campaigns.flips --count 1000 --seed 0

Each round damages one file of a built project. The published folder then loads with right values or is refused in two
lines; the next build completes, and its folder is what a build of an undamaged project publishes, to the byte.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

from tests.campaigns.children import Ended, command, forked, preload
from tests.campaigns.kills import fault, loaded
from tests.campaigns.small import Build, Small, matches
from tests.campaigns.tally import Tally

BUILT = Build(1.5, 0.3, extra=True)
#: what is built after the damage: the same, the other precision, or what reuses some of it and makes the rest anew
NEXT = {"same": BUILT, "fp16": replace(BUILT, precision="fp16"), "longer": replace(BUILT, longest=14)}


# -- damage ----------------------------------------------------------------------------------------


def flip(content: bytes, rng: Random) -> bytes:
    at = rng.randrange(len(content))
    return content[:at] + bytes([content[at] ^ (1 << rng.randrange(8))]) + content[at + 1 :]


def digit(content: bytes, rng: Random) -> bytes:
    """Another digit, hexadecimal ones too: what stays readable does most harm."""
    places = [i for i, c in enumerate(content) if chr(c) in "0123456789abcdef"]
    if not places:
        return flip(content, rng)
    at = rng.choice(places)
    others = [c for c in b"0123456789" if c != content[at]]
    return content[:at] + bytes([rng.choice(others)]) + content[at + 1 :]


def zeros(content: bytes, rng: Random) -> bytes:
    at = rng.randrange(len(content))
    n = min(rng.randrange(1, 64), len(content) - at)
    return content[:at] + bytes(n) + content[at + n :]


def cut(content: bytes, rng: Random) -> bytes:
    return content[: rng.randrange(len(content))]


def empty(content: bytes, rng: Random) -> bytes:
    return b""


def longer(content: bytes, rng: Random) -> bytes:
    return content + rng.randbytes(rng.randrange(1, 64))


def swapped(content: bytes, rng: Random) -> bytes:
    """Two pieces of the same length in each other's place."""
    n = max(1, min(64, len(content) // 3))
    one, other = sorted((rng.randrange(len(content) - 2 * n + 1) if len(content) > 2 * n else 0, len(content) - n))
    a, b = content[one : one + n], content[other : other + n]
    return content[:one] + b + content[one + n : other] + a + content[other + n :]


DAMAGES: tuple[Callable[[bytes, Random], bytes], ...] = (flip, flip, digit, digit, zeros, cut, empty, longer, swapped)


def kinds_of(project: Small) -> dict[str, list[Path]]:
    """The files that a project consists of, by what they are."""
    found: dict[str, list[Path]] = {}
    for path in sorted(p for p in project.outputs.rglob("*") if p.is_file() and p.stat().st_size):
        found.setdefault(_kind(path.relative_to(project.outputs)), []).append(path)
    return found


def _kind(path: Path) -> str:
    if path.parts[0] != "store":
        return "published manifest" if path.suffix == ".json" else "published engine"
    if path.parts[1] == "objects":
        return "record" if path.name == "record.json" else "artefact"
    return f"store/{path.parts[1]}"


def damage(project: Small, rng: Random) -> tuple[str, str]:
    """Damage one file; (its kind, what was done)."""
    kinds = kinds_of(project)
    kind = rng.choice(sorted(kinds))
    path = rng.choice(kinds[kind])
    before, content = path.stat(), path.read_bytes()
    how = rng.choice([*DAMAGES, None])
    name = str(path.relative_to(project.root))
    if how is None:
        path.unlink()
        return kind, f"{name} removed"
    in_place, kept = rng.random() < 0.6, rng.random() < 0.6
    changed = how(content, rng)
    if not in_place:  # as whoever copies files about leaves them: no longer the store's hard link
        path.unlink()
    elif not before.st_mode & 0o200:
        path.chmod(0o644)
    path.write_bytes(changed)
    path.chmod(before.st_mode & 0o777)
    if kept:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    where = next(
        (i for i, (a, b) in enumerate(zip(content, changed, strict=False)) if a != b), min(len(content), len(changed))
    )
    told = f"{how.__name__} at {where} of {len(content)}, {'in place' if in_place else 'another inode'}"
    told += f", mtime {'kept' if kept else 'new'}: {content[where : where + 24]!r} → {changed[where : where + 24]!r}"
    return kind, f"{name} {told}"


# -- what must come of it --------------------------------------------------------------------------


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
TIMED = ("created", "sha256")


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


def two_lines(text: str) -> bool:
    """Whether an error is told as one is: lines of facts and of what to do, no traceback."""
    return "Traceback" not in text and 1 <= len(text.strip().splitlines()) <= 8


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

    def round(self, seed: int, number: int) -> None:
        rng = Random(f"{seed}-{number}")
        self.restore()
        kind, what = damage(self.project, rng)
        self.tally.note(f"damaged: {kind}")
        self.load(number, f"{kind}: {what}")
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


def flips(root: Path, count: int, seed: int, first: int = 0) -> Tally:
    tally = Tally(f"python -m tests.campaigns.flips --count 1 --seed {seed} --first {{}}")
    one = Flips(root, tally)
    for number in range(first, first + count):
        one.round(seed, number)
    return tally


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="the first round's number")
    options = parser.parse_args(arguments)
    preload()
    root = Path(tempfile.mkdtemp(prefix="flips-"))
    try:
        tally = flips(root, options.count, options.seed, options.first)
    finally:
        shutil.rmtree(root)
    print(tally.report(options.count), flush=True)
    return 1 if tally.failures else 0


if __name__ == "__main__":
    raise SystemExit(main())
