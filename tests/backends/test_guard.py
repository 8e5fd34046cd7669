"""Closed once, when no one runs it any more, by the process that loaded it."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from autovoice import Pipeline
from autovoice.backends.guard import Guard
from autovoice.errors import BuildError
from tests.folders import fill

X = {"x": np.ones(3, np.float32)}


@pytest.fixture
def pipeline(tmp_path: Path) -> Iterator[Pipeline]:
    with Pipeline.load(fill(tmp_path, 2)) as loaded:
        yield loaded


def in_a_fork(check: object) -> str:
    """What a call says in a child of this process, which ends without cleaning up as multiprocessing's do."""
    read, write = os.pipe()
    child = os.fork()
    if not child:
        try:
            check()  # type: ignore[operator]
            os.write(write, b"nothing")
        except BaseException as e:
            os.write(write, f"{type(e).__name__}: {e}".encode())
        finally:
            os._exit(0)
    os.close(write)
    os.waitpid(child, 0)
    with open(read, "rb") as file:
        return file.read().decode()


def test_a_fork_is_told_so(pipeline: Pipeline) -> None:
    assert pipeline.run(X)["y"].tolist() == [2, 2, 2]
    for call in (
        lambda: pipeline.run(X),
        lambda: pipeline.component("scale").run(X),
        lambda: pipeline.put(X),
        pipeline.wait,
    ):
        said = in_a_fork(call)
        assert said.startswith(f"BuildError: this pipeline was loaded by process {os.getpid()}, and process ")
        assert said.endswith(" is a fork of it\n  load it in the process that runs it, or start processes by 'spawn'")
    assert in_a_fork(pipeline.close) == "nothing"  # it frees nothing of its parent
    assert pipeline.run(X)["y"].tolist() == [2, 2, 2]


def test_closing_waits_for_who_runs_it() -> None:
    guard, inside, leave = Guard("thing"), threading.Event(), threading.Event()

    def use() -> str:
        with guard:
            inside.set()
            assert leave.wait(10)
            return "done"

    with ThreadPoolExecutor(2) as threads:
        used = threads.submit(use)
        assert inside.wait(10)
        closed = threads.submit(guard.close)
        while not guard._closed:
            pass
        assert not closed.done()
        with pytest.raises(BuildError, match="this thing is closed\n  load it again"), guard:
            raise AssertionError("it was let in")
        leave.set()
        assert used.result(10) == "done"
        assert closed.result(10) is True
    assert guard.close() is False  # once


def test_closing_inside_its_own_use_is_told() -> None:
    guard = Guard("thing")
    with guard, pytest.raises(BuildError, match="this thing is running in the thread that closes it"):
        guard.close()
    assert guard.close() is True


def test_threads_that_run_while_it_is_closed(tmp_path: Path) -> None:
    """Each run ends with its answer or with the one error, never with another."""
    for _ in range(20):
        pipeline = Pipeline.load(fill(tmp_path, 2))

        def work(pipeline: Pipeline = pipeline) -> str:
            try:
                while True:
                    assert pipeline.run(X)["y"].tolist() == [2, 2, 2]
            except BuildError as e:
                return e.fact

        with ThreadPoolExecutor(3) as threads:
            working = [threads.submit(work) for _ in range(3)]
            pipeline.close()
            assert {w.result(10) for w in working} == {"this pipeline is closed"}
