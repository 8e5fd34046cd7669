"""The first build of all shipped components against the calls it makes, made by hand in one process.

Two sums to compare with: `calls`, the raw calls alone, and `wall`, a script of them with its imports, which is what
the same work costs without a build system. The bound is held against the script: a build imports torch once, too.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import psutil
import pytest

pytestmark = [pytest.mark.performance, pytest.mark.slow, pytest.mark.usefixtures("only_enabled")]
BY_HAND = Path(__file__).with_name("by_hand.py")
GIB = 2**30
SAMPLE_S = 0.05


def by_hand(folder: Path) -> dict:
    done = subprocess.run([sys.executable, BY_HAND, folder], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@contextmanager
def emptied(parent: Path) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(dir=parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def records(outputs: Path) -> list[dict]:
    return [json.loads(p.read_bytes()) for p in outputs.glob("store/objects/*/*/record.json")]


def by_kind(found: list[dict]) -> dict[str, float]:
    seconds: dict[str, float] = defaultdict(float)
    for record in found:
        seconds[record["inputs"]["kind"]] += record["seconds"]
    return dict(seconds)


def test_first_build(measure, command, tmp_path):
    """≤ 1.1× the raw calls with one worker; faster than them with two."""
    hand, built = [], []

    def raw() -> float:
        with emptied(tmp_path) as folder:
            hand.append(by_hand(folder))
        return hand[-1]["wall"]

    def build(workers: int) -> Callable[[], float]:
        def run() -> float:
            with emptied(tmp_path) as outputs:
                start = time.perf_counter()
                command(f"paths.outputs={outputs}", f"workers={workers}")
                wall = time.perf_counter() - start
                found = records(outputs)
            (inputs,) = (r for r in found if r["inputs"]["kind"] == "inputs")
            for point, sizes in inputs["result"]["points"].items():  # the same work, or the ratio means nothing
                assert sizes.items() <= hand[-1]["points"][point].items()
            if workers == 1:
                built.append(found)
            return wall

        return run

    seconds = measure.interleaved(build(1), {"by_hand": raw, "two_workers": build(2)}, rounds=3, warmup=0)
    one, script, two = (seconds[name] for name in ("subject", "by_hand", "two_workers"))
    calls = [h["calls"] for h in hand]
    steps = [by_kind(found) for found in built]
    measure.note(
        by_hand_kinds_s={k: round(median(h["by_kind"][k] for h in hand), 2) for k in hand[0]["by_kind"]},
        step_kinds_s={k: round(median(s[k] for s in steps), 2) for k in steps[0]},
        outside_steps_s=round(median(wall - sum(s.values()) for wall, s in zip(one, steps, strict=True)), 2),
        calls_s=[round(c, 2) for c in calls],
        over_calls=round(median(one) / median(calls), 4),
        ratios_of_minima={  # what a busy machine falsifies least
            "over_by_hand": round(min(one) / min(script), 4),
            "over_calls": round(min(one) / min(calls), 4),
            "two_workers_over_calls": round(min(two) / min(calls), 4),
        },
        ratios_of_rounds=[round(a / b, 4) for a, b in zip(one, script, strict=True)],
    )
    measure.at_most("over_by_hand", median(one) / median(script), 1.1)
    measure.at_most("two_workers_over_calls", median(two) / median(calls), 1.0)


class Memory:
    """Samples a process and all its descendants: shared pages counted once (PSS), and plainly summed (RSS)."""

    def __init__(self, process: psutil.Process) -> None:
        self.process = process
        self.peak = {"pss": 0, "uss": 0, "rss": 0}
        self.most_processes = 0
        self.samples = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Memory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(SAMPLE_S):
            total = {"pss": 0, "uss": 0, "rss": 0}
            tree = self._tree()
            for process in tree:
                try:
                    info = process.memory_full_info()
                except psutil.Error:  # gone meanwhile
                    continue
                for kind in total:
                    total[kind] += getattr(info, kind)
            self.peak = {kind: max(self.peak[kind], total[kind]) for kind in total}
            self.most_processes = max(self.most_processes, len(tree))
            self.samples += 1

    def _tree(self) -> list[psutil.Process]:
        try:
            return [self.process, *self.process.children(recursive=True)]
        except psutil.Error:
            return []


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="PSS is Linux's")
@pytest.mark.parametrize("workers", [1, 2])
def test_peak_memory(measure, tmp_path, workers):
    """≤ 4 GiB for the whole process tree, forked pages counted once."""

    def build() -> Memory:
        line = [sys.executable, "-m", "autovoice", f"paths.outputs={tmp_path / 'outputs'}", f"workers={workers}"]
        process = subprocess.Popen(line, cwd=tmp_path, stdout=subprocess.DEVNULL)
        with Memory(psutil.Process(process.pid)) as memory:
            assert process.wait() == 0
        return memory

    memory = measure.benchmark.pedantic(build)
    measure.note(samples=memory.samples, processes=memory.most_processes)
    measure.note(uss_gib=round(memory.peak["uss"] / GIB, 3), rss_sum_gib=round(memory.peak["rss"] / GIB, 3))
    measure.at_most("pss_gib", memory.peak["pss"] / GIB, 4.0)
