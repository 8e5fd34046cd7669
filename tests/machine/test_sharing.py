"""Locks between the steps of one machine and one GPU, whatever process runs them."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from autovoice.backends.loading import session_of
from autovoice.machine import gpus
from autovoice.machine.gpus import Gpu
from autovoice.machine.sharing import gpu_shared, machine_alone, machine_shared

SHORT, LONG = 0.2, 30.0  # seconds in which what has to wait has not come, and what need not has


FIRST, SECOND = (Gpu("NVIDIA H200", "9.0", 1 << 30, f"GPU-{i}") for i in range(2))


@pytest.fixture(autouse=True)
def _two_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And locks that no one else has."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setattr(gpus, "gpus", lambda: (FIRST, SECOND))


def waits(lock: AbstractContextManager[Any]) -> bool:
    """Whether `lock` has to wait for whatever holds it now; it is had in the end all the same, by a thread."""
    return not _had(lock, SHORT)


def comes(lock: AbstractContextManager[Any]) -> bool:
    return _had(lock, LONG)


def _had(lock: AbstractContextManager[Any], within: float) -> bool:
    had = threading.Event()

    def take() -> None:
        with lock:
            had.set()

    threading.Thread(target=take, daemon=True).start()
    return had.wait(within)


MACHINE = (machine_shared, machine_alone)
GPU = (partial(gpu_shared, alone=False), partial(gpu_shared, alone=True))


@pytest.mark.parametrize(("shared", "alone"), [MACHINE, GPU], ids=["machine", "gpu"])
def test_many_share_and_one_is_alone(shared: Any, alone: Any) -> None:
    with shared():
        assert comes(shared())
        assert waits(alone())
    with alone():
        assert waits(shared())
        assert waits(alone())


def test_to_be_alone_is_in_place_of_what_one_shares() -> None:
    with machine_shared():
        with machine_alone():
            assert waits(machine_shared())
        assert comes(machine_shared())
        assert waits(machine_alone())


def test_whoever_waits_for_the_gpu_keeps_nobody_from_the_machine() -> None:
    """Or one that has the GPU and wants the machine alone would wait for it for ever."""
    began, done = threading.Event(), threading.Event()

    def build() -> None:
        with machine_shared():
            began.set()
            with gpu_shared(alone=True):
                done.set()

    with gpu_shared(alone=False):
        threading.Thread(target=build, daemon=True).start()
        began.wait(LONG)
        assert comes(machine_alone())
        assert not done.is_set()
    assert done.wait(LONG)


def test_machine_and_gpu_are_held_apart() -> None:
    with machine_alone():
        assert comes(gpu_shared(alone=True))


def test_each_gpu_has_a_lock_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    with gpu_shared(alone=True):
        assert waits(gpu_shared(alone=True))
        monkeypatch.setattr(gpus, "gpus", lambda: (SECOND,))
        assert comes(gpu_shared(alone=True))


def test_without_a_gpu_there_is_nothing_to_wait_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpus, "gpus", lambda: ())
    with gpu_shared(alone=True):
        assert comes(gpu_shared(alone=True))


class Engine:
    """A backend whose sessions lie where its options say."""

    suffix = ".toy"

    def __init__(self, options: Mapping[str, Any]) -> None:
        self.memory: str = options["memory"]
        self.held_while_loading = False

    def session_from_engine(self, engine: Path, outputs: tuple[str, ...], shared: object) -> Engine:
        """Loading uses the GPU too."""
        self.held_while_loading = waits(gpu_shared(alone=True))
        return self

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *_: object) -> None: ...


@pytest.mark.parametrize(("memory", "waiting"), [("cuda", True), ("host", False)])
def test_nothing_times_kernels_while_an_engine_runs_on_the_gpu(memory: str, waiting: bool, tmp_path: Path) -> None:
    record = {"target": f"{__name__}.Engine", "options": {"memory": memory}}
    with session_of(record, tmp_path, ["y"]) as session:
        assert session.memory == memory
        assert session.held_while_loading
        assert waits(gpu_shared(alone=True)) if waiting else comes(gpu_shared(alone=True))
    assert comes(gpu_shared(alone=True))
