"""A sweep over precisions shares what precision does not change: each component is exported once."""

from __future__ import annotations

import json
import re
import time
from collections import Counter

import pytest

pytestmark = pytest.mark.performance
SWEEP = "precision=fp32,fp16"


@pytest.fixture
def tiny(tmp_path, pipeline_yaml):
    """The arguments of a pipeline of two linear layers."""
    tensor = {"dtype": "float32", "shape": ["rows", 16]}
    layer = {"_target_": "torch.nn.Linear", "in_features": 16, "out_features": 16}
    node = {
        "pipeline": {"name": "tiny", "inputs": {"x": tensor}},
        "dims": {"rows": {"min": 1, "opt": 4, "max": 8}},
        "component": {
            "first": {"model": layer, "inputs": {"input": "x"}, "outputs": {"hidden": tensor}},
            "second": {"model": layer, "inputs": {"input": "hidden"}, "outputs": {"y": tensor}, "seed": 1},
        },
    }
    pipeline_yaml(tmp_path / "conf", "tiny", node)
    return ("pipeline=tiny", f"--config-dir={tmp_path / 'conf'}")


def swept(measure, command, outputs, *arguments):
    """Sweep into an empty folder; how often each step ran in the two jobs together."""
    start = time.perf_counter()
    done = measure.benchmark.pedantic(command, args=(SWEEP, f"paths.outputs={outputs}", *arguments, "-m"))
    wall = time.perf_counter() - start
    ran = Counter(re.findall(r"^ \[\d+/\d+\] (\S+)", done.stdout, re.MULTILINE))
    records = [json.loads(p.read_bytes()) for p in outputs.glob("store/objects/*/*/record.json")]
    kinds = Counter(r["inputs"]["kind"] for r in records)
    exporting = sum(r["seconds"] for r in records if r["inputs"]["kind"] == "export")
    measure.note(wall_s=round(wall, 2), steps_ran=dict(kinds), export_s_not_repeated=round(exporting, 2))
    assert sum(ran.values()) == len(records)
    return ran


def check(ran, components):
    for name in components:
        assert {step: ran[f"{name}.{step}"] for step in ("export", "reference", "lower", "build", "verify")} == {
            "export": 1,
            "reference": 1,
            "lower": 2,
            "build": 2,
            "verify": 2,
        }
    assert ran["inputs"] == 1
    assert ran["end_to_end"] == 2


def test_tiny_sweep(measure, command, tiny, tmp_path):
    check(swept(measure, command, tmp_path / "outputs", *tiny), ("first", "second"))


@pytest.mark.slow
@pytest.mark.usefixtures("only_enabled")
def test_shipped_sweep(measure, command, tmp_path):
    outputs = tmp_path / "outputs"
    ran = swept(measure, command, outputs)
    manifest = json.loads((outputs / "voice_conversion" / "onnxruntime-fp16" / "manifest.json").read_bytes())
    names = [c["name"] for c in manifest["components"]]
    assert len(names) == 6
    check(ran, names)
