"""What all benchmarks share: interleaved timing, the command as a subprocess, and built outputs to measure on.

A plain test run executes each benchmark once on the cheap and judges nothing; with `--benchmark-enable` the
figures are measured, recorded in `extra_info`, and held against their bounds. `AUTOVOICE_BENCH_OUTPUTS` names an
outputs folder to build the shipped pipeline in, or to reuse; without it, a temporary one is built once a session.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import yaml
from onnx import TensorProto, helper

from tests.warm import warm

AUTOVOICE = (sys.executable, "-m", "autovoice")
Command = Callable[..., "subprocess.CompletedProcess[str]"]


def spread(seconds: Sequence[float]) -> dict[str, float]:
    return {
        "min": round(min(seconds), 6),
        "median": round(statistics.median(seconds), 6),
        "max": round(max(seconds), 6),
        "rounds": len(seconds),
    }


class Measure:
    """Times callables in turn (A B A B …), so that whatever else the machine does falls on all of them alike."""

    def __init__(self, benchmark: Any) -> None:
        self.benchmark = benchmark
        self.enabled: bool = benchmark.enabled

    def interleaved(
        self, subject: Callable[[], Any], others: Mapping[str, Callable[[], Any]], rounds: int, warmup: int = 1
    ) -> dict[str, list[float]]:
        """Seconds by name, `subject` under that name. A callable that returns a float has timed itself."""
        times: dict[str, list[float]] = {name: [] for name in ("subject", *others)}

        def timed(name: str, call: Callable[[], Any]) -> None:
            start = time.perf_counter()
            own = call()
            elapsed = time.perf_counter() - start
            times[name].append(own if isinstance(own, float) else elapsed)

        def before() -> None:
            for name, call in others.items():
                timed(name, call)

        self.benchmark.pedantic(lambda: timed("subject", subject), setup=before, rounds=rounds, warmup_rounds=warmup)
        kept = {name: seconds[warmup:] if self.enabled else seconds for name, seconds in times.items()}
        self.note(**{f"{name}_s": spread(seconds) for name, seconds in kept.items()})
        return kept

    def note(self, **figures: Any) -> None:
        self.benchmark.extra_info.update(figures)
        print(self.benchmark.name, figures)

    def at_most(self, name: str, value: float, bound: float) -> None:
        """Record a figure; hold it against its bound only where benchmarks are enabled."""
        self.note(**{name: round(value, 6), f"{name}_bound": bound})
        if self.enabled:
            assert value <= bound, f"{name}: {value:.4g}, the bound is {bound:g}"


@pytest.fixture
def measure(benchmark: Any) -> Measure:
    return Measure(benchmark)


@pytest.fixture(scope="session")  # before any other: what is skipped builds nothing
def only_enabled(request: pytest.FixtureRequest) -> None:
    option = request.config.getoption
    if option("benchmark_disable") and not option("benchmark_enable"):
        pytest.skip("takes minutes: --benchmark-enable")


@pytest.fixture(scope="session")
def command(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Command:
    """command(*overrides): `autovoice` in a process of its own, which must succeed.

    Where nothing is measured it is forked from a process that has imported everything.
    """
    folder = tmp_path_factory.mktemp("cwd")
    measured = request.config.getoption("benchmark_enable")

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        line = [*AUTOVOICE, *arguments]
        if measured:
            done = subprocess.run(line, cwd=folder, capture_output=True, text=True)
        else:
            done = subprocess.CompletedProcess(line, *warm().run(arguments, folder, os.environ, 900))
        assert done.returncode == 0, done.stdout + done.stderr
        return done

    return run


@pytest.fixture(scope="session")
def shipped_outputs(command: Command, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An outputs folder in which the default build is up to date."""
    given = os.environ.get("AUTOVOICE_BENCH_OUTPUTS")
    outputs = Path(given).absolute() if given else tmp_path_factory.mktemp("shipped")
    command(f"paths.outputs={outputs}")
    return outputs


CHAIN = 20


@pytest.fixture(scope="session")
def chain(command: Command, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """The arguments that name a built pipeline of 20 one-node ONNX components in a row; cheap to build."""
    root = tmp_path_factory.mktemp("chain")
    shape = ["batch", 8, "frames"]
    components = {}
    for i in range(CHAIN):
        save_scaling(root / f"c{i}.onnx", 1.0 + i / 100)
        wire = {"onnx_name": "y", "dtype": "float32", "shape": shape}
        components[f"c{i}"] = {
            "onnx": str(root / f"c{i}.onnx"),
            "inputs": {"x": f"w{i}"},
            "outputs": {f"w{i + 1}": wire},
        }
    pipeline = {
        "pipeline": {"name": "chain", "inputs": {"w0": {"dtype": "float32", "shape": shape}}},
        "dims": {"batch": {"min": 1, "opt": 1, "max": 2}, "frames": {"min": 4, "opt": 16, "max": 64}},
        "component": components,
        "export": {"simplify": False},
    }
    write_pipeline(root / "conf", "chain", pipeline)
    arguments = (f"--config-dir={root / 'conf'}", "pipeline=chain", f"paths.outputs={root / 'outputs'}")
    command(*arguments)
    return arguments


def save_scaling(path: Path, factor: float) -> None:
    """y = factor·x on [batch, 8, frames]."""
    value = {n: helper.make_tensor_value_info(n, TensorProto.FLOAT, ["batch", 8, "frames"]) for n in "xy"}
    weight = onnx.numpy_helper.from_array(np.array(factor, np.float32), "factor")
    graph = helper.make_graph(
        [helper.make_node("Mul", ["x", "factor"], ["y"], "scale")], "scale", [value["x"]], [value["y"]], [weight]
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)


def write_pipeline(conf: Path, name: str, node: Mapping[str, Any]) -> None:
    (conf / "pipeline").mkdir(parents=True, exist_ok=True)
    text = yaml.safe_dump(dict(node), sort_keys=False, width=1000)
    (conf / "pipeline" / f"{name}.yaml").write_text(f"# @package _global_\n# autovoice pipeline={name}\n{text}")


@pytest.fixture(scope="session")
def pipeline_yaml() -> Callable[[Path, str, Mapping[str, Any]], None]:
    return write_pipeline
