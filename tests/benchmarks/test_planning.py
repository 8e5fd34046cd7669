"""From composed data to a plan with every key, on an empty store: a second for 1,000 components, and linear."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from statistics import median

import pytest
from omegaconf import OmegaConf

from autovoice.config import compose

pytestmark = pytest.mark.performance

#: a process of its own for every round: nothing that an earlier plan has cached may help
PLAN = """\
import json, sys, time
from autovoice.command.invocation import Invocation
data = json.load(open(sys.argv[1]))
start = time.perf_counter()
steps = Invocation(data, (), None).plan.to_run
print(json.dumps([time.perf_counter() - start, len(steps)]))
"""


@pytest.fixture
def composed(tmp_path, pipeline_yaml):
    """composed(n): the composed configuration of n reference components in a row."""

    def make(n):
        shape = ["batch", 80, "frames"]
        components = {}
        for i in range(n):
            components[f"c{i}"] = {
                "model": {"_target_": "autovoice.models.mel_projection.MelProjection"},
                "inputs": {"latent_input": f"w{i}"},
                "outputs": {f"w{i + 1}": {"dtype": "float32", "shape": shape}},
                **{group: f"${{{group}}}" for group in ("precision", "backend", "calibration", "gate")},
            }
        name = f"chain{n}"
        node = {
            "defaults": [{"/dims": "default"}, {"/audio": "hifigan_22k"}],
            "pipeline": {"name": name, "inputs": {"w0": {"dtype": "float32", "shape": shape}}},
            "component": components,
        }
        pipeline_yaml(tmp_path / "conf", name, node)
        return compose.compose(tmp_path / "conf", [f"pipeline={name}", f"paths.outputs={tmp_path / 'empty'}"])

    return make


def plan_seconds(data: Path, components: int) -> float:
    done = subprocess.run([sys.executable, "-c", PLAN, str(data)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    seconds, steps = json.loads(done.stdout)
    assert steps == 5 * components + 2
    return seconds


def containers(config, repeat: int) -> list[float]:
    """What OmegaConf alone takes to resolve the same configuration: not planning, but paid by every run."""
    seconds = []
    for _ in range(repeat):
        start = time.perf_counter()
        OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
        seconds.append(time.perf_counter() - start)
    return seconds


def test_planning(measure, composed, tmp_path):
    sizes = (10, 100, 1000) if measure.enabled else (10, 100)
    calls = {}
    for n in sizes:
        start = time.perf_counter()
        made = composed(n)
        measure.note(**{f"composition_{n}_s": round(time.perf_counter() - start, 4)})
        resolving = median(containers(made.config, 5 if measure.enabled else 1))
        measure.note(**{f"to_container_{n}_s": round(resolving, 4)})
        data = tmp_path / f"{n}.json"
        data.write_text(json.dumps(made.data))
        calls[str(n)] = partial(plan_seconds, data, n)
    largest = str(sizes[-1])
    subject = calls.pop(largest)
    seconds = measure.interleaved(subject, calls, rounds=9)
    each = {n: median(s) / int(largest if n == "subject" else n) for n, s in seconds.items()}
    measure.note(per_component_ms={n: round(1e3 * s, 4) for n, s in each.items()})
    if measure.enabled:  # without what every plan pays once: the reading of the code that the keys cover
        small, middle, large = (median(seconds[n]) for n in ("10", "100", "subject"))
        measure.note(
            added_component_ms={"10-100": 1e3 * (middle - small) / 90, "100-1000": 1e3 * (large - middle) / 900}
        )
    measure.at_most("plan_s", median(seconds["subject"]), 1.0)
    if measure.enabled:
        measure.at_most("per_component_1000_over_100", each["subject"] / each["100"], 1.5)
