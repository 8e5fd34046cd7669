"""What is said of a worker process that died, by its exit code, the kernel's counts and the step's log."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from autovoice.errors import WorkerError
from autovoice.execution import worker_death
from autovoice.execution.worker_death import LOST, death, oom_kills, with_log

CODE = """
import ctypes, faulthandler, threading, time
faulthandler.enable(2)
threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
from {package} import go
go(lambda: ctypes.string_at(0))
"""


def test_a_kill_is_for_want_of_memory_only_where_the_kernel_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_death, "oom_kills", lambda: 4)
    assert death(-9, 3).fact == "its worker process was killed by the kernel, out of memory (SIGKILL)"
    assert death(-9, 3).fix == "workers=1, or smaller dims.*.max"
    assert "not by the kernel" in death(-9, 4).fact
    assert "memory" not in death(-11, 3).fact + death(-11, 3).fix
    monkeypatch.setattr(worker_death, "oom_kills", lambda: None)
    assert death(-9, 3).fact == "its worker process was killed (SIGKILL)"
    assert "this system does not tell" in death(-9, 3).fix


@pytest.mark.parametrize(
    ("code", "said", "crash"),
    [
        (-7, "crashed (SIGBUS)", "SIGBUS"),
        (-40, "was ended by signal 40", ""),
        (1, "ended with exit code 1", ""),
        (LOST, "was lost", ""),
    ],
)
def test_every_end_has_a_name(code: int, said: str, crash: str) -> None:
    assert said in death(code, 0).fact
    assert death(code, 0).crash == crash


@pytest.mark.parametrize(
    ("cgroup", "file", "kills"),
    [
        ("0::/user.slice/a.scope", "user.slice/a.scope/memory.events", 2),
        ("5:cpu:/x\n4:memory:/x/y\n0::/", "memory/x/y/memory.oom_control", 7),
        ("4:memory:/outside\n0::/", "memory/memory.oom_control", 1),  # of a container that sees its own root alone
    ],
)
def test_the_counts_of_the_own_cgroup_come_first(
    cgroup: str, file: str, kills: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counter = tmp_path / file
    counter.parent.mkdir(parents=True)
    counter.write_text(f"low 0\noom_kill_disable 0\noom_kill {kills}\n")
    (tmp_path / "vmstat").write_text("oom_kill 99\n")
    monkeypatch.setattr(worker_death, "_CGROUPS", tmp_path)
    monkeypatch.setattr(worker_death, "_VMSTAT", tmp_path / "vmstat")
    read = Path.read_text
    monkeypatch.setattr(Path, "read_text", lambda p: f"{cgroup}\n" if str(p) == "/proc/self/cgroup" else read(p))
    assert oom_kills() == kills
    counter.unlink()
    assert oom_kills() == 99
    (tmp_path / "vmstat").unlink()
    assert oom_kills() is None


def test_a_crash_is_told_of_the_package_that_crashed(tmp_path: Path) -> None:
    """By what Python itself leaves in a log, other threads and all."""
    package = tmp_path / "site-packages" / "brittle"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("def go(f):\n    f()\n")
    # the frame of `ctypes` is the standard library's: the first of a package that was installed counts
    path = {"PYTHONPATH": str(package.parent)}
    done = subprocess.run([sys.executable, "-c", CODE.format(package="brittle")], capture_output=True, env=path)
    log = tmp_path / "step.log"
    log.write_bytes(b"some output\n" + done.stderr)
    told = with_log(death(done.returncode, 0), log)
    assert (told.fact, told.fix) == ("brittle crashed (SIGSEGV)", f"log: {log}")


@pytest.mark.parametrize(
    "content", [None, b"", b"Fatal Python error: Segmentation fault\n\n<no Python frame>\n", b"\xff"]
)
def test_a_log_that_tells_nothing_is_named_all_the_same(content: bytes | None, tmp_path: Path) -> None:
    log = tmp_path / "step.log"
    if content is not None:
        log.write_bytes(content)
    told = with_log(WorkerError("its worker process crashed (SIGILL)", "do", "SIGILL"), log)
    assert str(told) == f"its worker process crashed (SIGILL)\n  do; log: {log}"
    assert told.crash == "SIGILL"
