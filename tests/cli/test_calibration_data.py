"""task=calibration_data: a dataset out of recordings, one that int8 builds are calibrated with."""

from __future__ import annotations

import hashlib
import json
import re
import zipfile
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

if TYPE_CHECKING:
    from tests.conftest import Project

DRAW = ("task=calibration_data", "calibration=synthetic", "output=data.npz")


def manifest(project: Project, name: str = "data.json") -> dict[str, Any]:
    data: dict[str, Any] = json.loads((project.root / name).read_bytes())
    return data


def left_behind(project: Project) -> list[str]:
    return [p.name for p in project.root.iterdir() if p.name.startswith((".data", "data"))]


@pytest.fixture(scope="module")
def drawn(toy_project: Project) -> tuple[Project, str]:
    """The toy project with 12 samples by coverage, and what the command said."""
    return toy_project, toy_project.ok(*DRAW, "samples=12", "seed=3")


def test_every_component_has_every_sample_unpadded(drawn: tuple[Project, str]) -> None:
    project, _ = drawn
    with np.load(project.root / "data.npz") as data:
        owners = {"embedder/ids", "embedder/present", "synth/features", "synth/gains", "limiter/x"}
        assert set(data.files) == {f"{owner}/{i:05d}" for owner in owners for i in range(12)}
        for i in range(12):
            n, length = data[f"embedder/ids/{i:05d}"].shape
            assert data[f"synth/features/{i:05d}"].shape == (n, length, 8)
            assert data[f"limiter/x/{i:05d}"].shape == (n, 2 * length)


def test_the_manifest_says_what_is_in_it_and_where_it_comes_from(drawn: tuple[Project, str]) -> None:
    project, _ = drawn
    said, file = manifest(project), project.root / "data.npz"
    assert said["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert (said["selection"], said["seed"], said["candidates"], len(said["samples"])) == ("coverage", 3, 48, 12)
    assert said["provenance"]["source"] == "autovoice.calibration.sources.synthetic"
    assert (said["provenance"]["kwargs"]["samples"], said["provenance"]["kwargs"]["seed"]) == (48, 3)
    assert said["coverage"]["length"]["seen"] == said["coverage"]["length"]["profile"] == [2, 12]
    assert sum(said["coverage"]["length"]["counts"]) == 12
    assert said["tools"]["numpy"] == np.__version__
    with zipfile.ZipFile(file) as archive:
        for sample in said["samples"]:
            assert sample["name"].startswith("synthetic ")
            for entry, about in sample["entries"].items():
                content = archive.read(f"{entry}.npy")
                assert (about["sha256"], about["size"]) == (hashlib.sha256(content).hexdigest(), len(content))


def test_the_summary_shows_every_input_and_the_profile(drawn: tuple[Project, str]) -> None:
    _, out = drawn
    assert "data.npz: 12 of 48 candidates (coverage), " in out
    lines = {line.split()[-1]: line for line in out.splitlines() if "float32" in line}
    assert len(lines) == 3
    assert all(set(histogram) & set("▁▂▃▄▅▆▇█") for histogram in lines)
    assert " length 2…12 of 2…12, 100% of its logarithmic range  |" in out
    assert " warning: 12 samples are few: below 100" in out
    command = "--config-dir conf pipeline=chime precision=int8 calibration=npz calibration.files=data.npz"
    assert out.endswith(f"data.json\nautovoice {command}\n")


def test_int8_is_calibrated_with_it(drawn: tuple[Project, str]) -> None:
    project, _ = drawn
    out = project.ok("precision=int8", "calibration=npz", "calibration.files=data.npz")
    assert "embedder    int8   int8 1/1 Conv/MatMul" in out
    for component in ("embedder", "synth", "limiter"):
        assert re.search(rf"calibrated on .*{component}.*, 12 samples: length 2 … 12 of 2 … 12", out)


def test_the_same_command_gives_the_same_file_and_runs_nothing(drawn: tuple[Project, str]) -> None:
    project, _ = drawn
    before, runs = (project.root / "data.npz").read_bytes(), project.runs()
    out = project.ok(*DRAW, "samples=12", "seed=3")
    assert out.startswith("data.npz: ")
    assert (project.root / "data.npz").read_bytes() == before
    assert project.runs() == runs


def test_first_takes_what_the_source_draws_and_random_depends_on_the_seed(drawn: tuple[Project, str]) -> None:
    project, _ = drawn
    chosen = {}
    for name, given in {
        "first": ("selection=first",),
        "random": ("selection=random",),
        "again": ("selection=random",),
        "other": ("selection=random", "seed=1"),
    }.items():
        project.ok(*DRAW, "samples=5", f"output={name}.npz", *given)
        said = manifest(project, f"{name}.json")
        chosen[name] = [s["candidate"] for s in said["samples"]]
        assert said["candidates"] == (5 if name == "first" else 20)
    assert chosen["first"] == [0, 1, 2, 3, 4]
    assert chosen["random"] == chosen["again"] != chosen["other"]


def test_a_source_that_draws_no_number_gives_what_it_has(fresh: Project) -> None:
    """An npz of the pipeline's inputs: seven short samples, whatever was asked."""
    rng = np.random.default_rng(0)
    arrays = {f"tokens/{i:05d}": rng.integers(0, 32, (1, 2 + i % 2)) for i in range(7)}
    gains = {f"gains/{i:05d}": rng.standard_normal((1, 8), np.float32) for i in range(7)}
    np.savez(fresh.root / "own.npz", **arrays, **gains)  # type: ignore[arg-type]
    given = ("calibration=npz", "calibration.level=pipeline", "calibration.files=own.npz", "samples=9")
    out = fresh.ok("task=calibration_data", "output=data.npz", *given)
    assert "data.npz: 7 of 7 candidates" in out
    assert " warning: the source gave 7 samples, 9 were wanted: give more data, input=" in out
    assert " warning: length: less than half of the profile's logarithmic range is covered" in out
    assert " warning: length: the largest sample has 3, opt is 5" in out
    assert manifest(fresh)["provenance"]["files"]["own.npz"]["path"] == "own.npz"


FAULTS = {
    "no output": ((), "output: task=calibration_data needs output=\n  autovoice task=calibration_data input="),
    "selection": (
        ("output=d.npz", "selection=coverag"),
        "selection: unknown selection 'coverag'\n  did you mean 'coverage'? available: coverage, first, random",
    ),
    "samples": (("output=d.npz", "samples=0"), "samples: must be at least 1, got 0\n  samples=100"),
    "a word": (("output=d.npz", "samples=many"), "samples: must be a whole number, got 'many'"),
    "suffix": (("output=d.zip",), "output: d.zip is no .npz file\n  output=d.npz"),
    "folder": (("output=no/d.npz",), "output: there is no folder no\n  mkdir -p no"),
    "component": (
        ("output=d.npz", "calibration=npz", "calibration.files=conf"),
        "calibration: 'npz' has samples of single components (level component)\n  calibration=speech, or",
    ),
    "none": (("output=d.npz", "calibration=none"), "calibration: 'none' has no source to draw samples from\n"),
    "deaf": (("output=d.npz", "input=conf"), "input: the source of calibration 'synthetic' reads no files\n  input="),
    "no input": (
        ("output=d.npz", "calibration=npz", "calibration.level=pipeline", "calibration.files=[]", "input=nowhere/"),
        "input: there is no file 'nowhere/'\n  input=/path/to/file, a folder or a pattern",
    ),
}


@pytest.mark.parametrize("case", FAULTS, ids=FAULTS)
def test_a_wrong_request_is_told_before_anything_runs(toy_project: Project, case: str) -> None:
    given, message = FAULTS[case]
    assert message in toy_project.fails("task=calibration_data", "calibration=synthetic", *given)


def test_a_file_that_is_no_manifest_is_not_replaced(fresh: Project) -> None:
    (fresh.root / "data.json").write_text('{"mine": 1}')
    assert "output: its manifest data.json would replace a file that is none\n" in fresh.fails(*DRAW)
    assert (fresh.root / "data.json").read_text() == '{"mine": 1}'


@pytest.mark.parametrize("selection", ["first", "coverage"])  # seen while writing, and while choosing
def test_a_value_that_is_not_finite_leaves_nothing_half_written(fresh: Project, selection: str) -> None:
    fresh.edit("src/chime/embedder.py", "return ", "return float('nan') * ")
    told = fresh.fails(*DRAW, "samples=3", f"selection={selection}")
    assert "'features', which synth reads, is not finite\n  leave that sample out" in told
    assert left_behind(fresh) == []


# -- the voice -------------------------------------------------------------------------------------


@pytest.fixture
def singer(fresh: Project) -> Project:
    return replace(fresh, given=("dims=streaming", "targets=[content_encoder]"))


def test_recordings_become_samples_of_the_voice(singer: Project) -> None:
    out = singer.ok("task=calibration_data", "output=data.npz", "samples=6")
    assert "content_encoder  input_audio  float32  1×" in out
    command = out.splitlines()[-1]
    expected = "'targets=[content_encoder]' precision=int8 calibration=npz calibration.files=data.npz"
    assert command == f"autovoice dims=streaming {expected}"
    assert all(s["name"].endswith(" s") for s in manifest(singer)["samples"])
    built = singer.ok("precision=int8", "calibration=npz", "calibration.files=data.npz")
    assert re.search(r"calibrated on .*content_encoder.*, 6 samples: samples ", built)


def test_a_folder_without_recordings_is_an_error(singer: Project) -> None:
    told = singer.fails("task=calibration_data", "output=data.npz", "input=conf")
    assert "samples_dataset: no recording among" in told
    assert "expected .aif, .aiff, .flac, .mp3, .ogg, .wav" in told
    assert left_behind(singer) == []
