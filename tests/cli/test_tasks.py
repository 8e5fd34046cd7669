"""plan, explain, run, gc and doctor."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import pytest

from autovoice.machine.gpus import gpus

if TYPE_CHECKING:
    from tests.conftest import Project

Feeds = Callable[..., dict[str, np.ndarray]]


# -- plan and explain ------------------------------------------------------------------------------


def test_a_plan_lists_every_step_before_anything_exists(fresh: Project) -> None:
    planned = fresh.plan()
    assert set(planned.values()) == {("run", "never built")}
    steps = ("export", "reference", "lower", "build", "verify")
    assert set(planned) == {"inputs", "end_to_end"} | {
        f"{c}.{s}" for c in ("embedder", "synth", "limiter") for s in steps
    }
    assert not fresh.outputs.exists()


def test_a_plan_of_a_finished_build_reuses_everything_and_writes_nothing(toy: Project) -> None:
    before = toy.files()
    assert set(toy.plan().values()) == {("reuse", "unchanged")}
    assert toy.files() == before


def test_a_plan_says_which_field_changed(toy: Project) -> None:
    planned = toy.plan("gate.component.snr_db.fp32=61")
    assert {s: why for s, (verb, why) in planned.items() if verb == "run"} == {
        f"{c}.verify": "gates.snr_db 60 → 61" for c in ("embedder", "synth", "limiter")
    }


@pytest.mark.skipif(bool(gpus()), reason="this machine has a GPU")
def test_a_plan_refuses_what_cannot_be_built_here(toy: Project) -> None:
    places = ", ".join(f"component.{name}.backend" for name in ("embedder", "synth", "limiter"))
    assert toy.fails("task=plan", "backend=torch", "precision=fp16", "component/limiter=module") == (
        f"error: {places}: torch runs float16 on a GPU alone, and this is a CPU\n  precision=fp32, or a GPU\n"
    )


def test_a_plan_of_another_precision_needs_no_export(toy: Project) -> None:
    planned = toy.plan("precision=half")
    assert planned["synth.export"] == planned["synth.reference"] == ("reuse", "unchanged")
    assert planned["synth.lower"][1].startswith("precision.name fp32 → half; precision.type float32 → float16")
    assert planned["end_to_end"] == ("run", "gates.snr_db 50 → 20; needs build")


def test_a_plan_compares_with_the_last_build_in_the_same_precision(toy: Project) -> None:
    toy.ok("precision=half")
    planned = toy.plan("component.synth.model.width=16")
    assert planned["synth.export"] == planned["synth.reference"] == ("run", "model.kwargs.width 8 → 16")
    assert planned["synth.lower"] == ("run", "needs export")
    assert planned["synth.build"] == ("run", "needs lower")
    assert planned["limiter.verify"] == ("run", "needs reference")


@pytest.mark.parametrize("chosen", ["component.synth", "targets=[synth]"])
def test_explain_shows_one_component(toy: Project, chosen: str) -> None:
    toy.edit("src/chime/synth.py", "x.square()", "x.abs()")
    out = toy.ok("task=explain", chosen)
    assert re.findall(r"^ (\S+)  (run|reuse)  key [0-9a-f]{12}$", out, re.MULTILINE) == [
        ("synth.export", "run"),
        ("synth.reference", "run"),
        ("synth.lower", "run"),
        ("synth.build", "run"),
        ("synth.verify", "run"),
    ]
    assert "\n   code edited: chime.synth\n" in out
    assert "\n   needs export\n" in out


def test_explain_shows_all_that_plan_cuts(toy: Project) -> None:
    out = toy.ok("task=explain", "component.limiter", "component/limiter=module")
    export = out.partition(" limiter.export ")[2].partition("\n\n")[0]
    assert "model.target none → chime.limiter.Limiter" in export
    assert "content of onnx changed" in export
    assert "more)" not in out


def test_explain_of_a_build_made_before_says_so(toy: Project) -> None:
    toy.ok("precision=half")
    out = toy.ok("task=explain", "component.embedder")
    lower = out.partition(" embedder.lower ")[2].partition("\n\n")[0]
    assert "precision.name half → fp32" in lower
    assert "built like this before: that artefact is reused" in lower


# -- run -------------------------------------------------------------------------------------------


def test_run_takes_and_gives_npz(toy: Project, feeds: Feeds) -> None:
    np.savez(toy.root / "in.npz", **feeds(7, 2))
    out = toy.ok("task=run", "feeds=in.npz", "output=out.npz")
    assert out.splitlines()[-2:] == ["out.npz: energy float32 [2, 7]", "out.npz: limited float32 [2, 14]"]
    with np.load(toy.root / "out.npz") as data:
        assert {n: data[n].shape for n in data.files} == {"energy": (2, 7), "limited": (2, 14)}
        assert np.abs(data["limited"]).max() <= 1


def test_run_builds_what_is_missing_first(fresh: Project, feeds: Feeds) -> None:
    np.savez(fresh.root / "in.npz", tokens=feeds()["tokens"])
    out = fresh.ok("task=run", "feeds=in.npz", "output=out.npz", "targets=[embedder]")
    assert "7 steps, 7 to run" in out
    assert out.splitlines()[-1] == "out.npz: features float32 [1, 5, 8]"


def test_run_of_a_folder_neither_builds_nor_plans(toy: Project, feeds: Feeds) -> None:
    np.savez(toy.root / "in.npz", **feeds())
    shutil.move(toy.folder, toy.root / "elsewhere")
    shutil.rmtree(toy.outputs)
    asked = ("task=run", "folder=elsewhere", "feeds=in.npz", "output=sub/out.npz")
    fact = "output: sub/out.npz cannot be written: there is no folder sub"
    assert toy.fails(*asked) == f"error: {fact}\n  mkdir -p sub\n"
    (toy.root / "sub").mkdir()
    out = toy.ok(*asked)
    assert out.splitlines() == ["sub/out.npz: energy float32 [1, 5]", "sub/out.npz: limited float32 [1, 10]"]
    assert not toy.outputs.exists()


def test_the_default_of_an_input_is_used(toy: Project, feeds: Feeds) -> None:
    given = feeds()
    np.savez(toy.root / "all.npz", **{**given, "present": np.ones((1, 5), bool)})
    del given["present"]
    np.savez(toy.root / "some.npz", **given)
    for name in ("all", "some"):
        toy.ok("task=run", f"folder={toy.folder}", f"feeds={name}.npz", f"output={name}.out.npz")
    with np.load(toy.root / "all.out.npz") as a, np.load(toy.root / "some.out.npz") as b:
        assert np.array_equal(a["limited"], b["limited"])


# -- benchmark -------------------------------------------------------------------------------------


@pytest.mark.skipif(bool(gpus()), reason="this machine has a GPU")
def test_a_benchmark_leaves_out_what_cannot_run_here(toy: Project) -> None:
    out = toy.ok("task=benchmark", "~benchmark.against.eager_fp32", "benchmark.warm_up=1", "benchmark.runs=2")
    assert "FAILED" not in out
    assert "nothing to do" in out
    assert re.findall(r"^ note: (.*)$", out, re.MULTILINE) == [
        f"no {name}: torch runs float16 on a GPU alone, and this is a CPU"
        for name in ("eager_fp16", "cuda_graph_fp16", "compiled_fp16")
    ]


# -- gc --------------------------------------------------------------------------------------------


def test_gc_lists_and_removes_only_on_request(toy: Project) -> None:
    half = toy.root / toy.ok("precision=half").splitlines()[-1]
    shutil.rmtree(half.parent)  # what it refers to is garbage now
    kept = set(toy.manifest["steps"].values())
    before = toy.files()

    listed = toy.ok("task=gc")
    assert toy.files() == before
    named = set(re.findall(r"^ would remove objects/../(\w+) ", listed, re.MULTILINE))
    assert len(named) == 10
    assert not named & kept
    assert re.search(
        r"^\d+ entries, .* would be freed; autovoice task=gc dry_run=false removes it; 17 steps", listed, re.M
    )

    removed = toy.ok("task=gc", "dry_run=false")
    assert removed.count(" removed ") == listed.count(" would remove ")
    assert {r["key"] for r in toy.records()} == kept
    assert "nothing to do" in toy.ok()
    assert "objects/" not in toy.ok("task=gc")


def test_gc_refuses_while_a_manifest_cannot_be_read(toy: Project) -> None:
    (toy.folder / "manifest.json").write_text("{")
    before = toy.files()
    assert "onnxruntime-fp32/manifest.json: cannot be read" in toy.fails("task=gc", "dry_run=false")
    assert toy.files() == before


def test_gc_without_a_store(fresh: Project) -> None:
    assert "no store, nothing to remove" in fresh.ok("task=gc", "dry_run=false")


# -- doctor ----------------------------------------------------------------------------------------


def test_doctor_names_tools_and_what_can_run(fresh: Project) -> None:
    out = fresh.ok("task=doctor")
    assert re.search(r"^ onnxruntime +\d+\.\d+\.\d+ +export, .*, backend=onnxruntime", out, re.MULTILINE)
    assert re.search(r"^ torch +\d+\.\d+\.\d+\S* +export, reference, backend=torch", out, re.MULTILINE)
    assert re.search(r"^ transformers +\S+ +component/content_encoder=hubert", out, re.MULTILINE)
    assert re.search(r"^ backend=onnxruntime +providers .*CPUExecutionProvider", out, re.MULTILINE)
    assert re.search(r"^ write the store +outputs/store, \d+ GB free$", out, re.MULTILINE)
