"""Built folders and stores as someone might write them who wants harm: told in two lines, and nothing in them runs.

    python -m tests.campaigns.hostile_manifests --count 1000 --seed 0

Two rounds of three change a published folder, which is then loaded and run; the third changes what the store's JSON
says, and a build follows. Each happens in a process with a limit on memory and ten seconds. A manifest's own digest,
and those of engines, are made to fit again: who can write a folder can do that too.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from random import Random
from typing import Any

from tests.campaigns.children import Ended, command, forked
from tests.campaigns.flips import BUILT
from tests.campaigns.hostile_files import SPECIAL, TEXTS, put
from tests.campaigns.hostile_folders import hostile_folder
from tests.campaigns.hostile_values import dumped, mutated
from tests.campaigns.kill_rounds import fault, loaded
from tests.campaigns.small import Small
from tests.campaigns.tally import Tally, held, parser

#: of loading and running, and of a build
SECONDS = {"folder": 10, "store": 30}
GIGABYTES, THREADS = 6.0, 256
#: a module that tells when it is imported, when its module class is made, and when it is called
CANARY = """
import os
def sing(*_, **__):
    open(os.environ["CANARY"], "a").write("x")
sing()
try:
    from torch import nn
    class Bird(nn.Module):
        def __init__(self, *_, **__):
            super().__init__()
            sing()
except ImportError:
    pass
BACKEND = sing
"""


def hostile_store(project: Small, rng: Random) -> str:
    """Change a JSON file of the store, or put something else in its place; what was done."""
    folder = project.store
    files = [folder / "hashes.json", folder / "imports.json", folder / "last" / "small.json"]
    path = rng.choice([*files, *[rng.choice(sorted(folder.glob("objects/*/*/record.json")))] * 3])
    name = path.relative_to(folder)
    if rng.random() < 0.25 or not path.is_file():
        special = {**TEXTS, **SPECIAL}
        what = rng.choice(sorted(special))
        put(path, special[what])
        return f"{name} is {what}"
    mode = path.stat().st_mode
    data, told = mutated(json.loads(path.read_bytes()), rng)
    put(path, dumped(data))
    path.chmod(mode & 0o777)
    return f"{name}: {told}"


class Hostile:
    """A built project, harmed and restored again and again."""

    def __init__(self, root: Path, tally: Tally) -> None:
        self.project, self.base, self.tally = Small(root / "project"), Small(root / "base"), tally
        self.canary = root / "sang"
        (root / "nest").mkdir()
        (root / "nest" / "canary.py").write_text(CANARY)
        sys.path.insert(0, str(root / "nest"))
        os.environ["CANARY"] = str(self.canary)
        self.project.write(BUILT)
        ended = forked(command(self.project.root, self.project.arguments(BUILT)), 60)
        assert (ended.how, ended.value) in (("returned", 0), ("returned", None)), ended
        self.project.copy_to(self.base.root)

    def round(self, seed: int, number: int) -> None:
        rng = Random(f"{seed}-{number}")
        self.base.copy_to(self.project.root)
        kind = rng.choice(["folder", "folder", "store"])
        what = hostile_folder(self.project, rng) if kind == "folder" else hostile_store(self.project, rng)
        call = self._load if kind == "folder" else self._build
        ended = forked(call, SECONDS[kind], GIGABYTES)
        self.judge(kind, number, ended, what)
        if kind == "store":
            self.completes(number, what)

    def _load(self) -> str:
        got = loaded(self.project.folder(BUILT))
        threads = len(os.listdir("/proc/self/task"))
        return f"{len(got)} outputs" if threads <= THREADS else f"{threads} threads"

    def _build(self) -> Any:
        return command(self.project.root, self.project.arguments(BUILT))()

    def completes(self, number: int, what: str) -> None:
        """However a store was harmed, the command that was refused once is not refused again."""
        ended = forked(self._build, SECONDS["store"])
        if ended.how != "returned" or ended.value:
            self.tally.fail(
                "store: is not mended by the next build", number, f"{ended.why} {ended.said[-400:]}; {what}"
            )
            return
        wrong = fault(self.project.folder(BUILT), [BUILT])
        if wrong:
            self.tally.fail("store: the build after it is wrong", number, f"{wrong}; {what}")

    def judge(self, kind: str, number: int, ended: Ended, what: str) -> None:
        fail = self.tally.fail
        if self.canary.exists():
            self.canary.unlink()
            fail(f"{kind}: code was executed", number, f"{ended.why}; {what}")
        said = ended.said if kind == "store" else ended.value
        if ended.how == "refused" or (kind == "store" and ended.how == "returned" and ended.value):
            text = str(said)[max(0, str(said).find("error: ")) :].strip()  # a command tells its plan before
            self.tally.note(f"{kind}: refused")
            if "Traceback" in ended.said:
                fail(f"{kind}: traceback", number, f"{ended.said[-1500:]}; {what}")
            elif len(text.splitlines()) > 8 or len(text) > 2000:
                fail(f"{kind}: an error of {_rough(text)}", number, f"{text[:200]!r}; {what}")
            elif any(c < " " and c not in "\n\t" for c in text):
                fail(f"{kind}: control characters in an error", number, f"{text[:300]!r}; {what}")
        elif ended.how == "returned" and kind == "folder" and "threads" in str(ended.value):
            fail("folder: starts as many threads as it is told", number, f"{ended.value}; {what}")
        elif ended.how == "returned":
            self.tally.note(f"{kind}: harmless")
            if "Traceback" in ended.said:
                fail(f"{kind}: traceback", number, f"{ended.said[-1500:]}; {what}")
        else:
            error = str(ended.value).partition(":")[0] if ended.how == "raised" else ""
            frames = [line.strip() for line in ended.said.splitlines() if "autovoice/" in line]
            fail(f"{kind}: {ended.how} {error}".strip(), number, f"{str(ended.value)[:300]}; {what}; {frames[-1:]}")


def _rough(text: str) -> str:
    return "many lines" if len(text.splitlines()) > 8 else "thousands of characters"


def hostile(root: Path, options: argparse.Namespace) -> Tally:
    again = f"python -m tests.campaigns.hostile_manifests --count 1 --seed {options.seed} --first {{}}"
    tally = Tally(again, options.minutes)
    one = Hostile(root, tally)
    for number in tally.rounds(range(options.first, options.first + options.count)):
        one.round(options.seed, number)
    return tally


def main() -> int:
    options = parser(__doc__, 1000).parse_args()
    return held(lambda root: [hostile(root, options)])


if __name__ == "__main__":
    raise SystemExit(main())
