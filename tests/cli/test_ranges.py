"""Ranges of the user's own, calibrators and methods, through the command line."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.tones import LOOSE, NPZ, again, calibration, component, folder, lowered_scale, manifest, ranges_of, to_run

if TYPE_CHECKING:
    from tests.conftest import Project


GIVEN = ("precision=int8", "calibration=none", "calibration.ranges=ranges")


@pytest.fixture
def given(built: Project, first: str) -> Project:
    """The built project with its ranges in `ranges/<component>.json`."""
    (built.root / "ranges").mkdir()
    for name in ("embedder", "mixer"):
        source = folder(built, manifest(built, first), f"{name}.ranges") / "ranges.json"
        (built.root / "ranges" / f"{name}.json").write_bytes(source.read_bytes())
    return built


def edited(project: Project, change: Callable[[dict[str, Any]], Any]) -> Path:
    path = project.root / "ranges" / "mixer.json"
    data = json.loads(path.read_bytes())
    change(data)
    path.write_text(json.dumps(data))
    return path


def test_a_folder_of_ranges_is_used_and_only_read(given: Project, first: str) -> None:
    path = edited(given, lambda data: data["ranges"].update(features=[-8, 8]))
    files = [path, path.with_name("embedder.json")]
    before = [(p.read_bytes(), p.stat().st_mtime_ns, p.stat().st_ino) for p in files]
    out = given.ok(*GIVEN)
    assert [(p.read_bytes(), p.stat().st_mtime_ns, p.stat().st_ino) for p in files] == before
    data = manifest(given, out)
    assert ranges_of(given, data, "mixer")["ranges"]["features"] == [-8, 8]
    assert lowered_scale(given, data, "features") == pytest.approx(16 / 255)
    assert component(data, "mixer")["calibration"]["samples"] is None
    assert not {s for s in data["steps"] if "samples" in s or "observe" in s}
    built_before = component(manifest(given, first), "embedder")
    assert component(data, "embedder")["sha256"] == built_before["sha256"]


def test_a_file_of_ranges_for_one_component(given: Project) -> None:
    calibration(given, "given", ranges="ranges/mixer.json")
    data = manifest(given, given.ok(*NPZ, "component.mixer.calibration=given"))
    assert component(data, "mixer")["calibration"]["name"] == "given"
    edited(given, lambda data: data["ranges"].update(features=[-8, 8]))
    planned = given.plan(*NPZ, "component.mixer.calibration=given")
    assert planned["mixer.ranges"] == ("run", "content of calibration.ranges changed")
    assert to_run(planned) == {"mixer.ranges"} | again("mixer")


def test_an_edited_model_gets_new_ranges_and_no_other_does(given: Project) -> None:
    given.edit("src/tones/mixer.py", "torch.relu(self.body(x))", "torch.relu(2 * self.body(x))")
    planned = given.plan(*NPZ)
    assert planned["mixer.export"] == ("run", "code edited: tones.mixer")
    assert {"mixer.observe", "mixer.ranges"} | again("mixer") <= to_run(planned)
    assert "mixer.samples" not in to_run(planned)
    assert not {s for s in to_run(planned) if s.startswith("embedder")}
    before = given.runs()
    given.ok(*NPZ)
    assert not {s for s in given.runs() - before if s.startswith("embedder")}
    assert re.match(r"error: mixer\.ranges: \S+: was made for another graph \(", given.fails(*GIVEN))


def test_ranges_of_another_graph(given: Project) -> None:
    """What else may be wrong with a file of ranges is in tests/steps and tests/onnx_tools."""
    path = edited(given, lambda data: data.update(model="0" * 64))
    content = path.read_bytes()
    err = given.fails(*GIVEN)
    assert re.match(r"error: mixer\.ranges: \S*ranges/mixer\.json: was made for another graph \(000000000000…, ", err)
    assert path.read_bytes() == content


def test_ranges_that_are_not_there(given: Project) -> None:
    (given.root / "ranges" / "mixer.json").unlink()
    err = given.fails(*GIVEN)
    assert "ranges/mixer.json: No such file or directory\n" in err
    assert "calibration.ranges=" in err


# -- calibrators and methods --------------------------------------------------------------------------


def test_a_calibrator_gives_the_ranges(built: Project) -> None:
    chosen = calibration(built, "mine", calibrator={"_target_": "tones.calibrators.fixed", "bound": 6})
    data = manifest(built, built.ok("precision=int8", chosen, *LOOSE))
    found = ranges_of(built, data, "mixer")
    assert found["ranges"]["features"] == [-6, 6]
    assert found["ranges"]["relu_1"] == [0, 6]
    assert found["method"] == "tones.calibrators.fixed"
    assert component(data, "mixer")["calibration"]["name"] == "mine"
    assert lowered_scale(built, data, "features") == pytest.approx(12 / 255)
    built.edit("src/tones/calibrators.py", "bound=4.0", "bound=5.0")
    assert built.plan("precision=int8", chosen)["mixer.ranges"] == ("run", "code edited: tones.calibrators")


def test_another_method_observes_again_and_another_percentile_does_not(built: Project) -> None:
    planned = built.plan(*NPZ, "calibration.method=percentile")
    assert planned["mixer.observe"] == ("run", "histograms.default False → True")
    assert planned["mixer.samples"] == ("reuse", "unchanged")
    out = built.ok(*NPZ, "calibration.method=percentile", *LOOSE)
    wide = ranges_of(built, manifest(built, out), "mixer")
    assert wide["method"] == {"percentile": 99.99, "default": "percentile"}
    narrower = ("calibration.method=percentile", "calibration.percentile=90", *LOOSE)
    planned = built.plan(*NPZ, *narrower)
    assert planned["mixer.observe"] == planned["mixer.samples"] == ("reuse", "unchanged")
    assert planned["mixer.ranges"] == ("run", "percentile 99.99 → 90.0")
    narrow = ranges_of(built, manifest(built, built.ok(*NPZ, *narrower)), "mixer")
    for tensor, (low, high) in narrow["ranges"].items():
        assert wide["ranges"][tensor][0] <= low <= high <= wide["ranges"][tensor][1]
    assert narrow["ranges"] != wide["ranges"]
    planned = built.plan(*NPZ, "calibration.method=mse", *LOOSE)
    assert planned["mixer.observe"] == ("reuse", "unchanged")
    assert planned["mixer.ranges"][0] == "run"


def test_a_pattern_of_methods_that_matches_no_tensor(built: Project) -> None:
    methods = {"featurs": "entropy"}
    calibration(built, "mine", source={"_target_": "tones.sources.samples"}, method=methods)
    err = built.fails("precision=int8", "calibration=mine", f"component.embedder.{whole(built)}")
    fix = "did you mean 'features'? available: "
    assert err.startswith(f"error: methods_mine: calibration.method: 'featurs' matches no tensor\n  {fix}")


def test_a_pattern_of_methods_that_only_one_component_has(built: Project) -> None:
    """`calibration.method` is for all components: a pattern is a mistake where none of them has such a tensor."""
    data = manifest(built, built.ok(*NPZ, "calibration.method={relu*: entropy}"))
    assert ranges_of(built, data, "mixer")["method"] == {"default": "minmax", "relu*": "entropy"}


def whole(project: Project) -> str:
    """The override of a calibration that is right for every component."""
    return calibration(project, "right", source={"_target_": "tones.sources.samples"})
