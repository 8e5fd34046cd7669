"""`autovoice` as typed: what a build says, what it repeats, and where it puts things."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.conftest import Project

ReadPlan = Callable[[str], dict[str, tuple[str, str]]]


def test_a_first_build_prints_the_steps_the_table_and_the_manifest(master: Project, read_plan: ReadPlan) -> None:
    said = (master.root / "first_build.txt").read_text().splitlines()
    assert said[0] == "chime on onnxruntime, fp32: 17 steps, 17 to run, 0 reused"
    assert set(read_plan("\n".join(said)).values()) == {("run", "never built")}
    assert sum(bool(re.fullmatch(r" \[\d+/17\] [a-z_.]+ +\d+\.\d s", line)) for line in said) == 17
    header = next(i for i, line in enumerate(said) if line.startswith(" component"))
    assert said[header].split() == ["component", "asked", "delivered", "file", "worst", "parity", "at", "time"]
    assert [line.split()[0] for line in said[header + 1 : header + 5]] == ["embedder", "synth", "limiter", "end"]
    assert re.match(
        r" embedder +fp32 +fp32 4/4 nodes +\d\.\d kB +\d+\.\d dB ≥ 60 +(min|opt|max|between) ", said[header + 1]
    )
    assert said[-1] == "outputs/chime/onnxruntime-fp32/manifest.json"
    assert master.folder.joinpath("manifest.json").is_file()


def test_the_folder_holds_one_file_a_component_and_the_manifest(master: Project) -> None:
    names = sorted(p.name for p in master.folder.iterdir())
    assert names == ["embedder.onnx", "limiter.onnx", "manifest.json", "synth.onnx"]
    assert sorted(p.name for p in master.outputs.iterdir()) == ["chime", "store"]
    stored = master.artefact("synth.build") / "engine.onnx"
    assert stored.samefile(master.folder / "synth.onnx")


def test_a_second_run_says_one_line_and_leaves_nothing_new(toy: Project) -> None:
    before = toy.files()
    out = toy.ok()
    path = "outputs/chime/onnxruntime-fp32/manifest.json"
    assert out == f"chime on onnxruntime, fp32: nothing to do, 17 steps reused → {path}\n"
    assert toy.files() == before
    assert sorted(p.name for p in toy.root.iterdir()) == ["conf", "first_build.txt", "outputs", "src", "weights"]


def test_other_dims_verify_again_but_export_nothing(toy: Project) -> None:
    exported = toy.exports()
    planned = toy.plan("dims=chime_long")
    assert {step.rpartition(".")[2] for step, (verb, _) in planned.items() if verb == "run"} == {
        *("inputs", "reference", "verify", "end_to_end")
    }
    assert planned["inputs"] == ("run", "dims.length.opt 5 → 20; dims.length.max 12 → 40")
    assert planned["embedder.reference"] == ("run", "needs inputs")
    out = toy.ok("dims=chime_long")
    assert toy.exports() == exported
    folders = sorted(p.name for p in (toy.outputs / "chime").iterdir())
    assert folders[0] == "onnxruntime-fp32"
    assert re.fullmatch(r"onnxruntime-fp32-[0-9a-f]{6}", folders[1])
    assert out.splitlines()[-1] == f"outputs/chime/{folders[1]}/manifest.json"


def test_the_same_dims_by_single_values_are_the_same_steps(toy: Project) -> None:
    toy.ok("dims=chime_long")
    out = toy.ok("dims.length.max=40", "dims.length.opt=20")  # it cannot be known that the folder would be the same
    assert re.match(r"chime on onnxruntime, fp32: wrote .*manifest.json, 17 steps reused → ", out)


def test_an_edited_module_is_exported_again_and_no_other(toy: Project) -> None:
    toy.edit("src/chime/layers.py", "0.1 *", "0.2 *")
    planned = toy.plan()
    assert planned["synth.export"] == ("run", "code edited: chime.layers")
    assert {verb for step, (verb, _) in planned.items() if step.startswith("embedder.")} == {"reuse"}
    before = toy.runs()
    toy.ok()
    ran = toy.runs() - before
    assert {step for step in ran if step.endswith(".export")} == {"synth.export"}
    assert not any(step.startswith("embedder") for step in ran)
    assert toy.exports() == {"Embedder": 1, "Synth": 2}
    assert "nothing to do" in toy.ok()


def test_an_edit_of_code_that_nothing_imports_changes_nothing(toy: Project) -> None:
    toy.edit("src/chime/limiter.py", "torch.tanh", "torch.sigmoid")
    assert "nothing to do" in toy.ok()


def test_another_onnx_file_is_imported_again(toy: Project, limiter: Callable[..., None], read_plan: ReadPlan) -> None:
    before = toy.manifest["components"]
    limiter(toy.root / "weights" / "limiter.onnx", op="Sin")
    out = toy.ok()
    planned = read_plan(out)
    assert planned["limiter.export"] == planned["limiter.reference"] == ("run", "content of onnx changed")
    assert re.search(r"^ synth +nothing to do$", out, re.MULTILINE)
    assert [a["sha256"] == b["sha256"] for a, b in zip(before, toy.manifest["components"], strict=True)] == [
        *(True, True, False)
    ]


def test_targets_build_a_subset_and_what_it_needs(toy: Project) -> None:
    planned = toy.plan("targets=[synth]")
    assert {step.partition(".")[0] for step in planned} == {"inputs", "end_to_end", "embedder", "synth"}
    assert [step for step, (verb, _) in planned.items() if verb == "run"] == ["end_to_end"]
    folder = (toy.root / toy.ok("targets=[synth]").splitlines()[-1]).parent
    assert folder != toy.folder
    assert sorted(p.name for p in folder.iterdir()) == ["embedder.onnx", "manifest.json", "synth.onnx"]


def test_a_subset_planned_after_a_full_build_reuses_its_steps(toy: Project) -> None:
    planned = toy.plan("targets=[embedder]")
    assert {step for step, (verb, _) in planned.items() if verb == "run"} == {"end_to_end"}
    assert planned["inputs"] == planned["embedder.reference"] == ("reuse", "unchanged")


def test_a_removed_component_is_left_out(toy: Project) -> None:
    folder = (toy.root / toy.ok("~component.limiter").splitlines()[-1]).parent
    assert folder != toy.folder
    assert sorted(p.name for p in folder.iterdir()) == ["embedder.onnx", "manifest.json", "synth.onnx"]
    assert (toy.folder / "limiter.onnx").exists()


def test_mixed_precision_has_a_folder_of_its_own(toy: Project) -> None:
    out = toy.ok("component.synth.precision=half")
    assert out.startswith("chime on onnxruntime, fp32 (synth half): ")
    assert re.fullmatch(r"outputs/chime/mixed-[0-9a-f]{6}/manifest\.json", out.splitlines()[-1])
    assert re.search(r"\n synth +half +half 10/10 nodes ", out)
    assert re.search(r"\n embedder +fp32 +fp32 4/4 nodes ", out)
    assert "note: onnxruntime here computes half files in float32, between casts" in out
    other = toy.ok("component.embedder.precision=half")
    assert other.splitlines()[-1] != out.splitlines()[-1]


def test_a_variant_is_chosen_by_name_and_stands_apart(toy: Project) -> None:
    planned = toy.plan("component/embedder=rich")
    assert planned["embedder.export"] == ("run", "model.kwargs.vocabulary 32 → 64")
    assert planned["limiter.build"][0] == "reuse"
    assert planned["limiter.verify"] == ("run", "needs reference")  # what it limits is another signal
    out = toy.ok("component/embedder=rich")
    assert toy.exports() == {"Embedder": 2, "Synth": 1}
    assert out.splitlines()[-1] != "outputs/chime/onnxruntime-fp32/manifest.json"
    assert "nothing to do" in toy.ok()  # the default still stands


def test_half_is_a_precision_of_the_project_not_of_the_tool(toy: Project) -> None:
    out = toy.ok("precision=half")
    assert out.splitlines()[-1] == "outputs/chime/onnxruntime-half/manifest.json"
    assert re.search(r"\n synth +half +half 10/10 nodes .* dB ≥ 30 ", out)
    assert toy.exports() == {"Embedder": 1, "Synth": 1}


@pytest.mark.parametrize("name", ["precision=half", "component.embedder.precision=half"])
def test_a_run_and_its_plan_agree(toy: Project, name: str) -> None:
    planned = re.search(r"(\d+) to run", toy.ok("task=plan", name))
    assert planned
    assert len(re.findall(r"\n \[\d+/\d+\] ", toy.ok(name))) == int(planned[1]) > 0
