"""What is looked at after a kill and after the next run, and a reader that looks meanwhile."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tests.campaigns.children import Child, Command, forked
from tests.campaigns.small import Build, Small, feeds, matches
from tests.campaigns.tally import Tally


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

    def in_peace(self, build: Build) -> float:
        """Build and publish; seconds."""
        start = time.monotonic()
        code, out, err = self.builds(build)
        assert code == 0, out + err
        self.published[self.project.folder(build)] = build
        return time.monotonic() - start

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
