"""What a benchmark holds while it runs, and what it compares with what."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from autovoice.backends.base import Shared
from autovoice.command.benchmark_settings import Settings
from autovoice.errors import ConfigError, StoreError
from autovoice.runtime.opened import Opened
from autovoice.runtime.pipeline import Pipeline
from autovoice.store.artefacts import Store
from autovoice.tasks import benchmark
from tests.builders import component

TENSOR = {"dtype": "float32", "shape": [2], "default": None}
WIRES = {"first": ("x", "y"), "second": ("y", "z")}


def settings(*against: Any) -> Settings:
    return Settings(({},), warm_up=1, runs=2, against=against)


def invocation(store: Path, *names: str) -> Any:
    """Of a configuration with these of the components."""
    parts = [component(n, reads=[WIRES[n][0]], makes=[WIRES[n][1]]) for n in names]
    graph = SimpleNamespace(components=parts, parts=parts)
    return SimpleNamespace(store=Store(store), graph=graph, check=lambda: None)


# -- the store -------------------------------------------------------------------------------------


def removable(store: Path) -> bool:
    """Whether `task=gc` would get the store now."""
    fd = os.open(store / "locks" / "in_use", os.O_RDWR)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(fd)
    return True


def measured(during: list[bool], store: Path) -> Any:
    def of(*_: Any) -> Any:
        during.append(removable(store))
        return {"autovoice": [{benchmark.WHOLE: SimpleNamespace(median=1.0)}]}, [], store

    return of


def test_nothing_is_removed_while_baselines_are_built_and_timed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    during: list[bool] = []
    monkeypatch.setattr(benchmark, "read_benchmark", lambda _: settings("a baseline"))
    monkeypatch.setattr(benchmark, "_measured", measured(during, tmp_path))
    monkeypatch.setattr(benchmark, "_data", lambda *_: {})
    assert benchmark.run(invocation(tmp_path)) == 0
    assert (during, removable(tmp_path)) == ([False], True)


def test_a_store_that_cannot_be_is_an_error_before_anything_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmark, "read_benchmark", lambda _: settings("a baseline"))
    with pytest.raises(StoreError) as raised:
        benchmark.run(invocation(Path("/proc/none/store")))
    assert str(raised.value) == (
        "benchmark.against: baselines are built in the store: store /proc/none/store: No such file or directory\n"
        "  build elsewhere: paths.outputs=/another/folder; or benchmark.against=null, which builds no baselines"
    )


# -- what is compared ------------------------------------------------------------------------------


class Engine:
    memory = "host"
    notes = ("it was slow",)

    def __init__(self) -> None:
        self.runs = 0

    def run(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        self.runs += 1
        return {writes: feeds[reads] + 1 for reads, writes in WIRES.values() if reads in feeds}

    def put(self, feeds: Mapping[str, Any]) -> Mapping[str, Any]:
        return feeds

    def wait(self) -> None: ...


@pytest.fixture
def engines(monkeypatch: pytest.MonkeyPatch) -> dict[str, Engine]:
    """Of a folder with both components, which every benchmark loads."""
    found = {name: Engine() for name in WIRES}
    records = [
        {"name": n, "inputs": {reads: reads}, "outputs": {writes: {"wire": writes}}}
        for n, (reads, writes) in WIRES.items()
    ]
    manifest = {"dims": {}, "contract": {}, "inputs": ["x"], "outputs": ["z"], "components": records}
    manifest |= {"tensors": dict.fromkeys("xyz", TENSOR)}
    opened: Any = {n: Opened(e, "onnxruntime") for n, e in found.items()}  # type: ignore[arg-type]
    pipeline = Pipeline(Path("built"), manifest, opened, ExitStack(), Shared())

    @contextmanager
    def loaded(_: Any) -> Iterator[Pipeline]:
        yield pipeline

    monkeypatch.setattr(benchmark, "loaded", loaded)
    monkeypatch.setattr(benchmark, "_feeds", lambda *_: {"x": np.zeros(2, np.float32)})
    return found


def test_of_a_folder_no_more_is_timed_than_the_targets(engines: dict[str, Engine], tmp_path: Path) -> None:
    found, _, _ = benchmark._measured(invocation(tmp_path, "first"), settings())
    assert found["autovoice"][0].keys() == {"first", benchmark.WHOLE}
    assert engines["first"].runs > 0
    assert engines["second"].runs == 0


def test_a_whole_folder_is_timed_as_a_pipeline_runs(engines: dict[str, Engine], tmp_path: Path) -> None:
    found, notes, folder = benchmark._measured(invocation(tmp_path, "first", "second"), settings())
    assert found["autovoice"][0].keys() == {"first", "second", benchmark.WHOLE}
    assert engines["second"].runs == 1 + 2 * (1 + 2)  # once for the wires; alone and whole, warm-up and two runs each
    assert (notes, folder) == (["first: it was slow", "second: it was slow"], Path("built"))


def test_a_folder_without_what_is_to_be_compared(engines: dict[str, Engine], tmp_path: Path) -> None:
    other = invocation(tmp_path, "first")
    other.graph.components.append(component("third", reads=["y"], makes=["w"]))
    with pytest.raises(ConfigError) as raised:
        benchmark._measured(other, settings())
    assert str(raised.value) == (
        "folder: 'built' has no third that reads y\n"
        "  targets='[first, second]' are all it has; without folder= the configuration is built"
    )
