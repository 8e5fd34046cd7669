"""Builders that meet, die, are interrupted, or run out of disk."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import psutil
import pytest

from autovoice.store.artefacts import Store
from tests.campaigns.interrupts import heeds_interrupts, interrupted

if TYPE_CHECKING:
    from tests.conftest import Project

#: a module that tells when it is made, then waits: the moment to strike
WAITING = """
import os, time
from pathlib import Path
Path(os.environ["TOY"], f"exporting-{os.getpid()}").touch()
while not Path(os.environ["TOY"], "go").exists():
    time.sleep(0.02)
"""


def waiting(project: Project) -> None:
    project.edit("src/chime/synth.py", "from chime.layers", f"{WAITING}\nfrom chime.layers")


def until(found: Callable[[], object], seconds: float = 180) -> None:
    end = time.monotonic() + seconds
    while not found():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.02)


def exporting(project: Project) -> list[int]:
    """Processes that are importing the synth."""
    return [int(p.name.partition("-")[2]) for p in project.root.glob("exporting-*")]


@contextmanager
def struck(project: Project, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A command in the middle of exporting the synth.

    It holds the machine while it waits, as every step does, so it must not outlive a test that fails.
    """
    waiting(project)
    process = project.start(*arguments)
    try:
        until(lambda: exporting(project))
        yield process
    finally:
        process.kill()
        (project.root / "go").touch()  # should a worker have outlived it, it need not wait on
        process.communicate(timeout=60)


@pytest.fixture
def running(fresh: Project) -> Iterator[subprocess.Popen[str]]:
    """A build in the middle of exporting the synth, the rest of it done."""
    with struck(fresh) as process:
        yield process


@pytest.fixture
def nearly(toy: Project) -> Project:
    """All of it built but the synth, and nothing published: what is left of a build begins at once."""
    shutil.rmtree(toy.outputs / "chime")
    return toy


@pytest.fixture
def ending(nearly: Project) -> Iterator[subprocess.Popen[str]]:
    """The rest of that build, in the middle of exporting the synth."""
    with struck(nearly) as process:
        yield process


def completes(project: Project) -> None:
    (project.root / "go").touch()
    out = project.ok()
    assert out.splitlines()[-1] == "outputs/chime/onnxruntime-fp32/manifest.json"
    assert project.half_written() == []
    assert "nothing to do" in project.ok()


def test_two_builders_at_once_build_each_artefact_once(fresh: Project) -> None:
    with struck(fresh) as first, fresh.start() as second:
        builders = [first, second]
        until(lambda: psutil.Process(second.pid).children())  # it has planned, and its workers start
        (fresh.root / "go").touch()
        said = [b.communicate(timeout=120) for b in builders]
    assert [b.returncode for b in builders] == [0, 0], said
    assert [out.splitlines()[-1] for out, _ in said] == ["outputs/chime/onnxruntime-fp32/manifest.json"] * 2
    assert fresh.exports() == {"Embedder": 1, "Synth": 1}
    assert set(fresh.runs().values()) == {1}
    assert len(fresh.runs()) == len(fresh.records()) == 17
    assert fresh.half_written() == []
    assert "nothing to do" in fresh.ok()


def test_a_killed_driver_takes_its_workers_along_and_the_next_run_completes(
    nearly: Project, ending: subprocess.Popen[str]
) -> None:
    workers = psutil.Process(ending.pid).children(recursive=True)
    assert workers
    ending.kill()
    ending.wait()
    _, alive = psutil.wait_procs(workers, timeout=60)
    assert [p for p in alive if p.status() != psutil.STATUS_ZOMBIE] == []
    assert not nearly.folder.exists()
    completes(nearly)


def test_a_killed_worker_is_one_failed_step(fresh: Project, running: subprocess.Popen[str]) -> None:
    done = fresh.store / "objects"
    until(lambda: len(list(done.glob("*/*/record.json"))) >= 5)
    for pid in exporting(fresh):
        os.kill(pid, signal.SIGKILL)
    (fresh.root / "go").touch()
    out, err = running.communicate(timeout=120)
    assert running.returncode == 1
    assert "Traceback" not in out + err
    failed = re.findall(r"\] (\S+) +FAILED", out)
    assert failed
    assert set(failed) <= {"synth.export", "synth.reference"}
    fact, fix = err.splitlines()[:2]
    assert re.fullmatch(r"error: synth\.\w+: its worker process was killed \(SIGKILL\), and not by the kernel .*", fact)
    assert re.fullmatch(rf"  run it again; log: {fresh.store}/logs/synth\.\S+\.log", fix)
    assert not fresh.folder.exists()
    completes(fresh)


def interrupted_by(signals: int, process: subprocess.Popen[str]) -> str:
    for _ in range(signals):
        os.killpg(process.pid, signal.SIGINT)  # a terminal sends it to the whole group
        time.sleep(0.05)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.endswith("\ninterrupted; finished steps are kept, nothing is half-written\n")
    return err


def test_ctrl_c_leaves_nothing_half_written(fresh: Project, running: subprocess.Popen[str]) -> None:
    assert "Traceback" not in interrupted_by(1, running)
    assert fresh.half_written() == []
    assert not fresh.folder.exists()
    assert {r["inputs"]["kind"] for r in fresh.records()} >= {"inputs"}
    completes(fresh)


def test_ctrl_c_pressed_twice_leaves_nothing_either(nearly: Project, ending: subprocess.Popen[str]) -> None:
    before = len(nearly.records())
    assert "Traceback" not in interrupted_by(2, ending)
    assert nearly.half_written() == []
    assert not nearly.folder.exists()
    assert len(nearly.records()) >= before


@pytest.mark.parametrize("group", [False, True], ids=["driver", "group"])
def test_sigterm_ends_as_ctrl_c_does(nearly: Project, ending: subprocess.Popen[str], group: bool) -> None:
    """Whether it is sent to the command alone, as by `kill`, or to all its processes, as by an init system."""
    workers = psutil.Process(ending.pid).children(recursive=True)
    assert workers
    (os.killpg if group else os.kill)(ending.pid, signal.SIGTERM)
    _, err = ending.communicate(timeout=60)
    assert ending.returncode == 143
    assert err == "\nterminated; finished steps are kept, nothing is half-written\n"
    _, alive = psutil.wait_procs(workers, timeout=60)
    assert [p for p in alive if p.status() != psutil.STATUS_ZOMBIE] == []
    assert nearly.half_written() == []
    assert not nearly.folder.exists()


@pytest.mark.parametrize("offset", [0.0, 0.1, 0.3, 0.6, 1.0])
def test_ctrl_c_while_it_starts_prints_no_traceback_and_ends_within_a_second(fresh: Project, offset: float) -> None:
    """From the import of what parses the command line to the imports of the process that workers start from."""
    found = interrupted([*fresh.given, "workers=2"], offset, fresh.root, True, fresh.environment)
    assert not found.traceback, found.err
    assert found.code == 130
    assert found.err.endswith("\ninterrupted; finished steps are kept, nothing is half-written\n")
    assert found.seconds is not None
    assert found.seconds < 1
    assert fresh.half_written() == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_that_a_destructor_swallows_comes_again(number: int) -> None:
    command = [sys.executable, "-c", SWALLOWED, str(number)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, preexec_fn=heeds_interrupts)
    assert (done.stdout, done.stderr) == (f"{128 + number}\n", "")


SWALLOWED = """
import os, sys, time
from autovoice.execution import interrupts

class Last:
    def __del__(self):
        os.kill(os.getpid(), int(sys.argv[1]))
        time.sleep(0.01)

interrupts.end_at_once()
interrupts.raise_instead()
try:
    Last()
    time.sleep(30)
except KeyboardInterrupt as e:
    print(interrupts.text_and_code(e)[1])
"""


def test_ctrl_c_ends_a_sweep(nearly: Project) -> None:
    with struck(nearly, "-m", "precision=fp32,half") as sweep:
        os.killpg(sweep.pid, signal.SIGINT)
        out, err = sweep.communicate(timeout=60)
    assert sweep.returncode == 130
    assert "precision=half" not in out
    assert "Traceback" not in err
    assert nearly.half_written() == []


MEASURING = """
import sys, time
from autovoice.machine.sharing import machine_alone
with machine_alone():
    print("held", flush=True)
    sys.stdin.read()
"""


SQUASHED = {
    "onnx": "weights/limiter.onnx",
    "inputs": {"x": "x"},
    "outputs": {"y": {"dtype": "float32", "shape": ["n", "length"]}},
}


def test_a_build_tells_who_has_the_machine_and_goes_on_when_that_one_is_stopped(
    fresh: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(fresh.root))
    project = fresh.pipeline("squashed", {"limiter": SQUASHED}, {"x": {"dtype": "float32", "shape": ["n", "length"]}})
    command = [sys.executable, "-c", MEASURING]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        try:
            assert holder.stdout
            assert holder.stdout.readline() == b"held\n"
            holder.send_signal(signal.SIGSTOP)
            out = project.ok()
        finally:
            holder.kill()
    who = rf"-c import .* \(pid {holder.pid}, stopped\), since \d\d:\d\d:\d\d"
    assert len(re.findall(rf"^ note: waiting for the machine: {who}$", out, re.MULTILINE)) == 1
    assert out.splitlines()[-1] == "outputs/squashed/onnxruntime-fp32/manifest.json"


HOLDER = """
import sys
from pathlib import Path
from autovoice.store.artefacts import Store
from tests.campaigns.interrupts import interrupted
with Store(Path(sys.argv[1])).lock(sys.argv[2]):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_an_interrupted_builder_leaves_alone_what_another_is_writing(tmp_path: Path) -> None:
    store, key = Store(tmp_path / "store"), "ab" + "0" * 62
    store.prepare()
    folder = store.workplace(key)
    command = [sys.executable, "-c", HOLDER, str(store.root), key]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout
        assert writer.stdout.readline() == "held\n"
        store.sweep_abandoned(key)
        assert folder.exists()
        writer.kill()
    store.sweep_abandoned(key)
    assert not folder.exists()


def test_a_reader_that_leaves_early_does_no_harm(toy: Project) -> None:
    process = toy.start("task=plan")
    assert process.stdout
    process.stdout.close()
    assert process.stderr
    err = process.stderr.read()
    process.stderr.close()
    assert process.wait(timeout=30) in (0, 1)
    assert err == ""


# -- the disk --------------------------------------------------------------------------------------


def test_outputs_below_a_file(fresh: Project) -> None:
    result = fresh.run("paths.outputs=weights/limiter.onnx/outputs")
    assert (result.code, result.out) == (1, "")  # before the plan is shown
    assert result.err == (
        f"error: store {fresh.root}/weights/limiter.onnx/outputs/store: a file stands where a folder should be\n"
        "  build elsewhere: paths.outputs=/another/folder\n"
    )


def test_outputs_where_no_one_can_write(fresh: Project) -> None:
    result = fresh.run("paths.outputs=/proc/autovoice")
    assert (result.code, result.out) == (1, "")
    assert re.fullmatch(
        r"error: store /proc/autovoice/store: .+\n  build elsewhere: paths.outputs=/another/folder\n", result.err
    )


def test_a_sweep_where_no_one_can_write(fresh: Project) -> None:
    result = fresh.run("-m", "precision=fp32,half", "paths.outputs=/proc/autovoice")
    assert (result.code, result.out) == (1, "")
    assert re.fullmatch(
        r"error: hydra\.sweep\.dir: /proc/autovoice/sweeps/.+: .+\n"
        r"  sweep elsewhere: paths\.outputs=/another/folder, or hydra\.sweep\.dir=/another/folder alone\n",
        result.err,
    )


def test_the_result_of_run_cannot_be_written(toy: Project, feeds: Callable[..., dict[str, np.ndarray]]) -> None:
    np.savez(toy.root / "in.npz", **feeds())
    err = toy.fails("task=run", f"folder={toy.folder}", "feeds=in.npz", "output=in.npz/out.npz")
    assert err == (
        "error: output: in.npz/out.npz cannot be written: a file stands where a folder should be\n"
        "  give another folder\n"
    )


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """tiny_disk(kilobytes): a file system of that size."""
    mounted: list[Path] = []

    def mount(kilobytes: int) -> Path:
        folder = tmp_path / f"disk-{kilobytes}"
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(folder)]
        done = subprocess.run(command, capture_output=True, text=True) if os.geteuid() == 0 else None
        if done is None or done.returncode:
            pytest.skip("a small file system can only be mounted by root: " + (done.stderr.strip() if done else ""))
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("kilobytes", [8, 28, 60])
def test_a_full_disk(fresh: Project, tiny_disk: Callable[[int], Path], kilobytes: int) -> None:
    """At the first step, at the log of a step, at the last steps: always the same two lines."""
    disk = tiny_disk(kilobytes)
    err = fresh.fails(f"paths.outputs={disk}", "targets=[embedder]")
    fix = "free some space (autovoice task=gc), or build elsewhere: paths.outputs=/another/folder"
    assert re.match(rf"error: [\w.]+: store {disk}/store: the disk is full\n  {re.escape(fix)}\n", err)
    assert list((disk / "store" / "tmp").iterdir()) == []
    assert [p.name for p in disk.iterdir()] == ["store"]


def test_a_sweep_on_a_full_disk(fresh: Project, tiny_disk: Callable[[int], Path]) -> None:
    err = fresh.fails("-m", f"paths.outputs={tiny_disk(8)}", "precision=fp32,half")
    fact, fix = err.splitlines()
    assert re.fullmatch(r"error: hydra\.sweep\.dir: .+/sweeps/.+: the disk is full", fact)
    assert fix.startswith("  free some space (autovoice task=gc), or sweep elsewhere: ")
