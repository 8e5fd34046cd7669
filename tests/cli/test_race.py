"""Whether int8 is worth it: told in the table, and with `only_if_faster` acted upon."""

from __future__ import annotations

import re
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.tones import LINE, component, copied_to, folder, manifest, write

if TYPE_CHECKING:
    from tests.conftest import Project


UNEVEN = '''from torch import nn


def grouped():
    """Four channels a group: ONNX Runtime has no fast integer kernel for it."""
    return nn.Conv1d(32, 32, 3, padding=1, groups=8)


def dense():
    """A few rows times a large matrix: as fast as its bytes can be read."""
    return nn.Sequential(nn.Linear(1024, 1024), nn.Linear(1024, 1024))
'''
SYNTHETIC = ("precision=int8", "calibration=synthetic")
NOTE = " note: {} is slower in int8 than in fp32; only_if_faster=true keeps fp32 there\n"


@pytest.fixture(scope="module")
def uneven(tones: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Two components side by side: `grouped` is several times slower in int8 here, `dense` faster."""
    project = copied_to(tmp_path_factory.mktemp("uneven") / "project", tones, built=False)
    write(project, uneven=UNEVEN)
    wave, rows = ["n", 32, "512*length"], ["n", "length", 1024]
    components = {
        "grouped": {
            "model": {"_target_": "tones.uneven.grouped"},
            "inputs": {"input": "wave"},
            "outputs": {"filtered": {"dtype": "float32", "shape": wave}},
        },
        "dense": {
            "model": {"_target_": "tones.uneven.dense"},
            "inputs": {"input": "rows"},
            "outputs": {"mapped": {"dtype": "float32", "shape": rows}},
        },
    }
    inputs = {"wave": {"dtype": "float32", "shape": wave}, "rows": {"dtype": "float32", "shape": rows}}
    return project.pipeline("uneven", components, inputs)


def test_a_build_that_does_not_pay_is_told_and_kept(uneven: Project) -> None:
    out = uneven.ok(*SYNTHETIC)
    data = manifest(uneven, out)
    ratios = {c["name"]: c["race"]["ratio"] for c in data["components"]}
    assert ratios["grouped"] > 1
    assert all((NOTE.format(name) in out) == (ratio >= 1) for name, ratio in ratios.items())
    assert re.search(rf"\n grouped +int8 +int8 1/1 Conv/MatMul .* {ratios['grouped']:.2f}× fp32 ", out)
    assert "chosen" not in component(data, "grouped")["race"]
    assert component(data, "grouped")["precision"]["delivered"]["heavy"] == {"int8": 1}


def test_only_if_faster_publishes_the_faster_engine(uneven: Project) -> None:
    before = manifest(uneven, uneven.ok(*SYNTHETIC))
    out = uneven.ok(*SYNTHETIC, "only_if_faster=true")
    data = manifest(uneven, out)
    place = uneven.root / [b for _, b in LINE.findall(out)][-1]
    for name in ("grouped", "dense"):
        found = component(data, name)
        race = found["race"]
        assert race["chosen"] == min(race["ms"], key=race["ms"].__getitem__)
        step = "build" if race["chosen"] == "int8" else "build_fp32"
        engine = folder(uneven, data, f"{name}.{step}") / "engine.onnx"
        assert found["sha256"] == sha256(engine.read_bytes()).hexdigest()
        assert found["precision"]["asked"] == "int8"
        assert found["precision"]["delivered"]["heavy"].keys() == {{"int8": "int8", "fp32": "float32"}[race["chosen"]]}
        assert sha256((place.parent / f"{name}.onnx").read_bytes()).hexdigest() == found["sha256"]
    assert component(data, "grouped")["race"]["chosen"] == "fp32"
    parity = r"(\S+ dB ≥ 60 +\w+|identical)"  # on some processors float32 comes out bit for bit
    assert re.search(rf"\n grouped +int8 +fp32, faster +\d+\.\d kB +{parity} +\d+\.\d\d× fp32 ", out)
    assert "is slower in int8" not in out
    worst = {
        n: min(p["filtered"]["snr_db"] for p in component(d, "grouped")["parity"].values())
        for n, d in (("int8", before), ("fp32", data))
    }
    assert worst["int8"] < 60 < worst["fp32"]
    assert "nothing to do" in uneven.ok(*SYNTHETIC, "only_if_faster=true")


def test_a_component_that_holds_nothing_to_quantize_is_not_called_slower(tones: Project, tmp_path: Path) -> None:
    """The limiter is one Tanh: both files are the same."""
    limiter = {
        "onnx": "weights/limiter.onnx",
        "inputs": {"x": "signal"},
        "outputs": {"limited": {"onnx_name": "y", "dtype": "float32", "shape": ["n", "2*length"]}},
    }
    inputs = {"signal": {"dtype": "float32", "shape": ["n", "2*length"]}}
    project = copied_to(tmp_path / "project", tones, built=False).pipeline("limited", {"limiter": limiter}, inputs)
    out = project.ok(*SYNTHETIC)
    assert component(manifest(project, out), "limiter")["race"] is None
