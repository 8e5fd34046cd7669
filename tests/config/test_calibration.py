"""Calibrations of a tree, as command lines choose and change them: every mistake in two lines, before anything runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from autovoice.errors import AutovoiceError
from tests.builders import composed_graph, write_tree

COMPONENT = """
    model: {_target_: torch.nn.Linear, in_features: 8, out_features: 8}
    outputs: {%s: {dtype: float32, shape: [n, 8]}}
    precision: ${precision}
    backend: ${backend}
    calibration: ${calibration}
    gate: ${gate}
"""
TREE = f"""# @package _global_
dims: {{n: {{min: 1, opt: 2, max: 3}}}}
pipeline: {{name: own, inputs: {{x: {{dtype: float32, shape: [n, 8]}}}}}}
component:
  embedder:
    inputs: [x]{COMPONENT % "features"}
  mixer:
    inputs: [features]{COMPONENT % "mixed"}
"""
NPZ = ("precision=int8", "calibration=npz", "calibration.files=data.npz")
BOTH = "component.embedder.calibration, component.mixer.calibration"


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_tree(tmp_path, {"conf/pipeline/own.yaml": TREE, "data.npz": ""})
    return Path("conf")


def test_the_files_of_a_calibration(tree: Path) -> None:
    graph = composed_graph("pipeline=own", *NPZ, config_dir=tree)
    assert [c.calibration.files for c in graph.components] == [(("data.npz", Path("data.npz")),)] * 2


@pytest.mark.parametrize(
    ("overrides", "fact", "fix"),
    [
        pytest.param(
            ["precision=int8", "calibration=none"],
            f"{BOTH}: int8 needs calibration data, 'none' has none",
            "calibration=npz calibration.files=data.npz, or leave it out: component.<name>.quantize.op_types=[]",
            id="none",
        ),
        pytest.param(
            ["precision=int8", "calibration=npz"],
            "calibration.files: is required",
            "set it: calibration.files=…",
            id="no files",
        ),
        pytest.param(
            [*NPZ, "calibration.calibrator={_target_: tones.calibrators.fixed}"],
            f"{BOTH}: 'npz' has source and calibrator",
            "one of them alone: calibration.source=null, or calibration.calibrator=null",
            id="source and calibrator",
        ),
        pytest.param(
            [*NPZ, "calibration.ranges=data.npz"],
            f"{BOTH}: 'npz' has source and ranges",
            "one of them alone: calibration.source=null, or calibration.ranges=null",
            id="source and ranges",
        ),
        pytest.param(
            [*NPZ[:2], "calibration.files=takes/*.npz"],
            "calibration.files: there is no file 'takes/*.npz'",
            "calibration.files=/path/to/file, a folder or a pattern",
            id="pattern",
        ),
        pytest.param(
            [*NPZ[:2], "calibration.files=daat.npz"],
            "calibration.files: there is no file 'daat.npz'",
            "calibration.files=/path/to/file, a folder or a pattern",
            id="file",
        ),
        pytest.param(
            ["precision=int9", *NPZ[1:]],
            "precision=int9: no such option in group 'precision' (asked for by config)",
            "did you mean 'int8'? available: ",
            id="precision",
        ),
        pytest.param(
            ["precision=int8", "calibration=npzz"],
            "calibration=npzz: no such option in group 'calibration' (asked for by config)",
            "did you mean 'npz'? available: ",
            id="calibration",
        ),
        pytest.param(
            [*NPZ, "component.mixer.calibration=synthetik"],
            "component.mixer.calibration: unknown calibration 'synthetik'",
            "did you mean 'synthetic'? available: ",
            id="of a component",
        ),
        pytest.param(
            [*NPZ, "calibration.method=entrpy"],
            "calibration.method: unknown method 'entrpy'",
            "did you mean 'entropy'? available: entropy, minmax, mse, percentile",
            id="method",
        ),
        pytest.param(
            [*NPZ, "calibration.level=pipelines"],
            "calibration.level: unknown level 'pipelines'",
            "component, or pipeline",
            id="level",
        ),
        pytest.param(
            [*NPZ, "calibration.fils=data.npz"],
            "calibration.fils: no key 'fils' in calibration",
            "did you mean 'files'? available: ",
            id="key",
        ),
        pytest.param(
            [*NPZ, "+component.mixer.quantize.excludes=[tail.*]"],
            "component.mixer.quantize.excludes: unknown key 'excludes'",
            "did you mean 'exclude'? available: exclude, first, include, last, op_types",
            id="key of a policy",
        ),
        pytest.param([*NPZ, "calibration.shards=0"], "calibration.shards: must be at least 1, got 0", "", id="shards"),
        pytest.param(
            [*NPZ, "calibration.percentile=0.9999"],
            "calibration.percentile: 0.9999 is out of range",
            "above 50, at most 100, as 99.99",
            id="percentile",
        ),
    ],
)
def test_a_calibration_that_is_wrong(tree: Path, overrides: list[str], fact: str, fix: str) -> None:
    with pytest.raises(AutovoiceError) as raised:
        composed_graph("pipeline=own", *overrides, config_dir=tree)
    assert str(raised.value).startswith(f"{fact}\n  {fix}")
