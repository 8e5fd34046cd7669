"""What is timed: the pipeline as a caller runs it, and each component alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest

from autovoice.measure.points import save_point
from autovoice.steps import latency
from autovoice.steps.context import Context

LOG: list[str] = []


class Session:
    """Starts its work when it is run, and says when that is waited for."""

    memory = "cuda"
    notes = ("no CUDA graph",)

    def __init__(self, name: str) -> None:
        self.name = name

    def run(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        LOG.append(f"run {self.name}")
        return {"out": feeds["in"]}

    def put(self, feeds: Mapping[str, Any]) -> Mapping[str, Any]:
        return feeds

    def wait(self) -> None:
        LOG.append(f"wait {self.name}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...


class Tool:
    suffix = ".bin"

    def __init__(self, options: Mapping[str, Any]) -> None: ...

    def session_from_engine(self, engine: Path, outputs: tuple[str, ...], shared: Any = None) -> Session:
        return Session(engine.parent.name)


@pytest.fixture
def context(tmp_path: Path) -> Context:
    save_point(tmp_path, "opt", {"x": np.zeros(2, np.float32)})
    wires = {"first": ("x", "y"), "second": ("y", "z")}
    components = {
        name: {
            "backend": {"target": f"{__name__}.Tool", "options": {}},
            "inputs": {"in": {"wire": reads}},
            "outputs": {"out": {"wire": writes}},
        }
        for name, (reads, writes) in wires.items()
    }
    needs = {"inputs": tmp_path} | {f"build:{name}": tmp_path / name for name in components}
    return Context({"components": components}, needs, {}, tmp_path)


def test_the_whole_is_one_chain_that_is_waited_for_at_its_end(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: dict[str, list[str]] = {}

    def timed_once(calls: Mapping[str, Callable[[], None]]) -> dict[str, list[float]]:
        for name, call in calls.items():
            LOG.clear()
            call()
            called[name] = list(LOG)
        return {name: [0.003 if name else 0.004] for name in calls}

    monkeypatch.setattr(latency, "timed_rounds", timed_once)
    result = latency.run(context)
    assert called.pop("") == ["run first", "run second", "wait first", "wait second"]
    assert called == {"first": ["run first", "wait first"], "second": ["run second", "wait second"]}
    assert (result["ms"], result["component_ms"]) == (4.0, {"first": 3.0, "second": 3.0})
    assert result["notes"] == ["first: no CUDA graph", "second: no CUDA graph"]
