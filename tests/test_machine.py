"""Locks between the steps of one machine and one GPU, whatever process runs them."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from autovoice.backends.base import session_of
from autovoice.cuda import device
from autovoice.cuda.device import Gpu
from autovoice.machine import gpu_shared, machine_shared

SHORT, LONG = 0.2, 30.0  # seconds in which what has to wait has not come, and what need not has


FIRST, SECOND = (Gpu("NVIDIA H200", "9.0", 1 << 30, f"GPU-{i}") for i in range(2))


@pytest.fixture(autouse=True)
def _two_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And locks that no one else has."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(device, "gpus", lambda: (FIRST, SECOND))


def waits(lock: AbstractContextManager[None]) -> bool:
    """Whether `lock` has to wait for whatever holds it now; it is had in the end all the same, by a thread."""
    return not _had(lock, SHORT)


def comes(lock: AbstractContextManager[None]) -> bool:
    return _had(lock, LONG)


def _had(lock: AbstractContextManager[None], within: float) -> bool:
    had = threading.Event()

    def take() -> None:
        with lock:
            had.set()

    threading.Thread(target=take, daemon=True).start()
    return had.wait(within)


@pytest.mark.parametrize("shared", [machine_shared, gpu_shared])
def test_many_share_and_one_is_alone(shared: Any) -> None:
    with shared(alone=False):
        assert comes(shared(alone=False))
        assert waits(shared(alone=True))
    with shared(alone=True):
        assert waits(shared(alone=False))


def test_machine_and_gpu_are_held_apart() -> None:
    with machine_shared(alone=True):
        assert comes(gpu_shared(alone=True))


def test_each_gpu_has_a_lock_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    with gpu_shared(alone=True):
        assert waits(gpu_shared(alone=True))
        monkeypatch.setattr(device, "gpus", lambda: (SECOND,))
        assert comes(gpu_shared(alone=True))


def test_without_a_gpu_there_is_nothing_to_wait_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "gpus", lambda: ())
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
