"""What is Hydra's: sweeps, help, the composed configuration, the user's own tree beside the shipped one."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

if TYPE_CHECKING:
    from tests.conftest import Project

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    "launcher", [[], ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]], ids=["basic", "joblib"]
)
def test_a_sweep_exports_each_component_once(fresh: Project, launcher: list[str]) -> None:
    out = fresh.ok("-m", "precision=fp32,half", *launcher)
    assert fresh.exports() == {"Embedder": 1, "Synth": 1}
    runs = fresh.runs()
    assert runs["embedder.export"] == runs["synth.export"] == runs["inputs"] == runs["synth.reference"] == 1
    assert runs["synth.lower"] == runs["synth.verify"] == 2
    for name in ("fp32", "half"):
        assert f"outputs/chime/onnxruntime-{name}/manifest.json" in out
        assert (fresh.outputs / "chime" / f"onnxruntime-{name}" / "manifest.json").is_file()
    assert fresh.half_written() == []


def test_a_failing_job_fails_the_sweep_and_not_its_neighbours(toy: Project) -> None:
    result = toy.run("-m", "precision=bf16,half", "keep_going=false")
    assert result.code == 1
    assert "cannot run bf16 (bfloat16)" in result.err
    assert re.search(r"^failed: .*precision=bf16", result.err, re.MULTILINE)
    assert "outputs/chime/onnxruntime-half/manifest.json" in result.out
    assert (toy.outputs / "chime" / "onnxruntime-half" / "manifest.json").is_file()
    assert "Traceback" not in result.err


def test_a_failing_job_of_a_parallel_sweep_fails_it_too(toy: Project) -> None:
    result = toy.run("-m", "precision=half,bf16", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
    assert result.code == 1
    assert re.search(r"^failed: .*precision=bf16", result.err, re.MULTILINE)
    assert (toy.outputs / "chime" / "onnxruntime-half" / "manifest.json").is_file()


def test_a_sweep_over_an_option_that_does_not_exist(toy: Project) -> None:
    """It is told before any job starts, wherever in the sweep it stands."""
    before = toy.files()
    result = toy.run("-m", "precision=half,hafl")
    assert (result.code, result.out) == (1, "")
    assert result.err == (
        "error: precision=hafl: no such option in group 'precision' (asked for by config)\n"
        "  did you mean 'half'? available: bf16, fp16, fp32, fp8, half, int8, int8_entropy, int8_minmax, tf32\n"
    )
    assert toy.files() == before


def test_a_sweep_for_objectives_that_there_are_not(toy: Project) -> None:
    before = toy.runs()
    result = toy.run("-m", "precision=fp32,half", "objectives=[snr_db,loudness]")
    assert result.code == 1
    assert result.err.count("error: objectives: unknown 'loudness'\n  available: megabytes, ms, snr_db\n") == 2
    assert toy.runs() == before


def test_a_sweep_over_a_key_that_is_added(toy: Project) -> None:
    out = toy.ok("-m", "+component.embedder.seed=1,2", "targets=[embedder]", "task=plan")
    assert re.findall(r"^ embedder +export, reference +run +(.*)$", out, re.MULTILINE) == ["seed 0 → 1", "seed 0 → 2"]


def test_a_sweep_keeps_its_logs_under_outputs(toy: Project) -> None:
    out = toy.ok("-m", "task=plan,explain")
    assert [line for line in out.splitlines() if line.startswith("── ")] == [
        "── pipeline=chime task=plan",
        "── pipeline=chime task=explain",
    ]
    assert len(list((toy.outputs / "sweeps").iterdir())) == 1
    assert sorted(p.name for p in toy.root.iterdir()) == ["conf", "first_build.txt", "outputs", "src", "weights"]


def test_a_shadowed_file_is_warned_about(toy: Project) -> None:
    (toy.root / "conf" / "precision" / "fp16.yaml").write_text("name: fp16\ntype: float32\n")
    result = toy.run("task=plan")
    assert result.code == 0
    assert result.err == "warning: conf/precision/fp16.yaml is hidden by the shipped file of that name; rename it\n"


def test_no_warning_without_a_shadow(master: Project) -> None:
    assert master.run("task=plan").err == ""


def test_help_lists_the_groups_of_both_trees(master: Project) -> None:
    out = master.ok("--help")
    assert "pipeline: chime, faulty, sentence_encoder, voice_conversion\n" in out
    assert "precision: bf16, fp16, fp32, fp8, half, int8, int8_entropy, int8_minmax, tf32\n" in out
    assert "autovoice task=plan precision=fp16" in out


def test_help_lists_every_task_with_a_sentence(master: Project) -> None:
    listed = re.findall(r"^  (\w+)  +\w.*\.$", master.ok("--help"), re.MULTILINE)
    assert listed == [p.stem for p in sorted((ROOT / "autovoice/tasks").glob("*.py")) if p.stem != "__init__"]


@pytest.mark.parametrize(
    "arguments",
    [["--cfg", "job"], ["--help"], ["-sc", "install=bash"], ["-m", "task=plan", "workers=1,2"]],
    ids=" ".join,
)
def test_whoever_reads_no_further_is_told_nothing(toy: Project, arguments: list[str]) -> None:
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "autovoice", *toy.given, *arguments]
    done = subprocess.run(
        command, cwd=toy.root, env=toy.environment, stdout=write, stderr=subprocess.PIPE, text=True, timeout=300
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (1, "")


def test_cfg_job_prints_the_composed_configuration(master: Project) -> None:
    data = yaml.safe_load(master.ok("--cfg", "job", "dims.length.max=99"))
    assert data["dims"]["length"]["max"] == 99
    assert data["component"]["synth"]["model"] == {"_target_": "chime.synth.Synth", "width": 8}
    assert list(data["component"]) == ["embedder", "synth", "limiter"]


def test_the_tree_may_be_named_by_an_absolute_path(toy: Project) -> None:
    absolute = replace(toy, given=("--config-dir", str(toy.root / "conf"), "pipeline=chime"))
    assert "nothing to do" in absolute.ok()


def test_completion_of_a_shell_is_answered(master: Project) -> None:
    assert "complete" in master.ok("--shell-completion", "install=bash")


HEAVY = ("torch", "onnx", "onnxruntime", "numpy", "transformers", "rich")
MODULES = """
import sys
from autovoice.cli import main
try:
    main({arguments!r})
except SystemExit as e:
    assert not e.code, e.code
print("imported:", sorted({heavy!r} & sys.modules.keys()))
"""


@pytest.mark.parametrize(
    "arguments",
    [
        ["task=plan"],
        ["task=plan", "precision=half"],
        ["task=plan", "component/limiter=module", "backend=torch"],
        [],
        ["task=explain"],
        ["--help"],
        ["task=gc"],
    ],
    ids=lambda a: " ".join(a) or "nothing to do",
)
def test_what_executes_nothing_imports_no_tool(master: Project, arguments: list[str]) -> None:
    code = MODULES.format(arguments=[*master.given, *arguments], heavy=set(HEAVY))
    assert master.python(code).splitlines()[-1] == "imported: []"


def test_doctor_asks_the_tools_themselves(master: Project) -> None:
    """So that the test above is known to be able to fail."""
    code = MODULES.format(arguments=[*master.given, "task=doctor"], heavy=set(HEAVY))
    assert master.python(code).splitlines()[-1] == "imported: ['numpy', 'onnxruntime', 'torch']"


def test_the_runtime_needs_neither_torch_nor_hydra_nor_onnx(master: Project) -> None:
    code = f"""
import sys
import numpy as np
from autovoice import Pipeline
with Pipeline.load({str(master.folder)!r}) as pipeline:
    out = pipeline.run({{"tokens": np.ones((1, 4), np.int64), "gains": np.zeros((1, 8), np.float32)}})
assert out["limited"].shape == (1, 8)
heavy = {{"torch", "hydra", "omegaconf", "onnx", "onnxslim", "yaml", "chime", "onnxruntime"}}
print("imported:", sorted(heavy & sys.modules.keys()))
"""
    assert master.python(code).splitlines()[-1] == "imported: ['onnxruntime']"
