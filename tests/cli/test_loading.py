"""Which folder engines are loaded from, what happens where one does not fit, and the choice of a backend."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import pytest

from autovoice import Pipeline
from autovoice.backends.torch import backend as torch_backend
from autovoice.errors import ArtefactError, MismatchError, StaleError
from autovoice.machine.gpus import gpus
from autovoice.runtime.manifest import sealed
from tests.conftest import Project as ProjectClass
from tests.conftest import copied

if TYPE_CHECKING:
    from tests.conftest import Project

Feeds = Callable[..., dict[str, np.ndarray]]
RUN = ("task=run", "feeds=in.npz", "output=out.npz", "overwrite=true")
#: modules all through, on torch, ONNX Runtime beside
GUARDED = ("component/limiter=module", "backend=torch", "on_mismatch=onnxruntime")


def with_feeds(project: Project, feeds: Feeds) -> Project:
    np.savez(project.root / "in.npz", **feeds())
    return project


# -- the folder ------------------------------------------------------------------------------------


def test_the_builds_own_folder_is_named(toy: Project, feeds: Feeds) -> None:
    out = with_feeds(toy, feeds).ok(*RUN)
    assert "\nengines: outputs/chime/onnxruntime-fp32 (the build's own)\n" in out


def test_folders_that_the_configuration_names_in_their_order(toy: Project, feeds: Feeds) -> None:
    with_feeds(toy, feeds)
    for name in ("own", "shared"):
        shutil.copytree(toy.folder, toy.root / name)
    shutil.rmtree(toy.outputs)
    shared = "paths.engines=shared"
    own = "+engines.chime={dir: own}"
    assert toy.ok(*RUN, shared, own).splitlines()[0] == "engines: own (engines.chime.dir)"
    assert toy.ok(*RUN, shared, "engines=null").splitlines()[0] == "engines: shared (paths.engines)"
    assert "engines: " not in toy.ok(*RUN, shared, own, "folder=shared")

    gone = toy.run(*RUN, shared, "+engines.chime={dir: gone}")
    assert gone.code == 0
    assert gone.err == "warning: engines.chime.dir: there is no folder 'gone'; the next in order is taken\n"
    assert gone.out.splitlines()[0] == "engines: shared (paths.engines)"
    assert not toy.outputs.exists()  # nothing was built


def test_a_folder_that_is_gone_leads_to_the_build(toy: Project, feeds: Feeds) -> None:
    said = with_feeds(toy, feeds).run(*RUN, "paths.engines=gone")
    assert (said.code, said.err.splitlines()) == (
        0,
        ["warning: paths.engines: there is no folder 'gone'; the next in order is taken"],
    )
    assert "nothing to do" in said.out  # naming a folder makes no other build
    assert "\nengines: outputs/chime/onnxruntime-fp32 (the build's own)\n" in said.out


def test_a_folder_of_another_pipeline_or_of_nothing(toy: Project, feeds: Feeds) -> None:
    with_feeds(toy, feeds)
    manifest = sealed(toy.manifest | {"pipeline": "bells"})
    (toy.root / "engines").mkdir()
    assert toy.fails(*RUN, "paths.engines=engines") == (
        "error: engines: no manifest.json here\n  give a folder that `autovoice` has built\n"
    )
    (toy.root / "engines" / "manifest.json").write_text(json.dumps(manifest))
    assert toy.fails(*RUN, "paths.engines=engines") == (
        "error: paths.engines: 'engines' holds engines of bells, not of chime\n"
        "  engines.chime.dir=/its/own/folder, or paths.engines=null\n"
    )


def test_a_wrong_key_is_told_by_any_task(toy: Project) -> None:
    assert toy.fails("+engines.chime={dri: own}") == (
        "error: engines.chime.dri: unknown key 'dri'\n  did you mean 'dir'? available: dir\n"
    )


# -- what does not fit -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def guarded(master: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = copied(master, tmp_path_factory.mktemp("guarded") / "project")
    out = project.ok(*GUARDED)
    assert re.search(
        r"^ onnxruntime stands by, where an engine does not fit: embedder \(.* kB, 140\.\d dB ≥ 60\), synth", out, re.M
    )
    return project


@pytest.fixture
def mine(guarded: Project, tmp_path) -> Project:
    return copied(guarded, tmp_path / "project")


def folder_of(project: Project):
    (found,) = (project.outputs / "chime").glob("torch-fp32-*")
    return found


def test_a_fallback_is_built_verified_and_published(guarded: Project) -> None:
    data = json.loads((folder_of(guarded) / "manifest.json").read_bytes())
    for c in data["components"]:
        policy, fallback = c["on_mismatch"]["policy"], c["on_mismatch"]["fallback"]
        assert (policy, fallback["backend"]["name"], fallback["precision"]) == ("onnxruntime", "onnxruntime", "fp32")
        assert fallback["file"] == f"{c['name']}.fallback.onnx"
        assert fallback["gates"]["snr_db"] == 60
        assert (folder_of(guarded) / fallback["file"]).stat().st_size == fallback["size"]
        assert f"{c['name']}.verify_fallback" in data["steps"]


def test_a_plain_build_has_none(master: Project) -> None:
    assert [c["on_mismatch"] for c in master.manifest["components"]] == [{"policy": "fail", "fallback": None}] * 3
    assert not list(master.folder.glob("*fallback*"))


def test_a_fallback_runs_and_says_so(mine: Project, feeds: Feeds) -> None:
    for path in folder_of(mine).glob("*.safetensors"):
        path.unlink()
    with Pipeline.load(folder_of(mine)) as pipeline:
        assert {n: c.backend for n, c in pipeline.components.items()} == dict.fromkeys(
            ("embedder", "synth", "limiter"), "onnxruntime"
        )
        assert pipeline.notes[1] == "synth: onnxruntime in place of torch: No such file or directory"
        assert pipeline.run(feeds())["limited"].shape == (1, 10)


def test_an_engine_of_another_machine(mine: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(self, engine, outputs, shared=None):
        raise MismatchError(f"{engine}: was built for compute capability 8.9, this GPU has 9.0", "build it again here")

    monkeypatch.setattr(torch_backend.Torch, "session_from_engine", refused)
    folder = folder_of(mine)
    why = "was built for compute capability 8.9, this GPU has 9.0"
    with Pipeline.load(folder, components=["synth"], trust=["chime"]) as pipeline:
        assert pipeline.notes == (f"synth: onnxruntime in place of torch: {why}",)
    with pytest.raises(MismatchError) as caught:
        Pipeline.load(folder, on_mismatch={"embedder": "fail"}, trust=["chime"])
    assert str(caught.value) == f"{folder / 'embedder.safetensors'}: {why}\n  build it again here"
    with pytest.raises(StaleError) as stale:
        Pipeline.load(folder, on_mismatch={"embedder": "rebuild"}, trust=["chime"])
    assert str(stale.value) == (
        f"embedder: {why}\n"
        "  building takes the configuration: run autovoice with it on this machine, and load what that writes"
    )


def test_a_fallback_is_checked_like_an_engine(mine: Project) -> None:
    folder = folder_of(mine)
    (folder / "synth.safetensors").unlink()
    (folder / "synth.fallback.onnx").unlink()
    with pytest.raises(ArtefactError, match=r"synth\.fallback\.onnx: No such file"):
        Pipeline.load(folder, components=["synth"])


def test_the_command_line_shows_a_fallback(mine: Project, feeds: Feeds) -> None:
    with_feeds(mine, feeds)
    folder = folder_of(mine)
    (folder / "synth.safetensors").unlink()
    out = mine.ok(*RUN, f"folder={folder}")
    assert out.splitlines()[0] == " synth: onnxruntime in place of torch: No such file or directory"


def test_code_of_a_folder_from_elsewhere_is_asked_for(mine: Project, feeds: Feeds) -> None:
    """Another store did not build it, whatever the folder says; `mine` did, and so did not ask above."""
    with_feeds(mine, feeds)
    shutil.copytree(folder_of(mine), mine.root / "received")
    elsewhere = (*RUN, "folder=received", "paths.outputs=elsewhere")
    names = "chime.embedder.Embedder,chime.synth.Synth,chime.limiter.Limiter"
    said = mine.fails(*elsewhere)
    assert said.startswith(
        "error: received: loading embedder.safetensors, synth.safetensors, limiter.safetensors runs "
    )
    assert f"trust=[{names}] on the command line" in said
    assert mine.fails(*elsewhere, "trust=[chime.synth]").startswith(
        "error: received: loading embedder.safetensors, limiter.safetensors runs code of chime.embedder.Embedder, "
    )
    assert "out.npz: limited float32 " in mine.ok(*elsewhere, "trust=[chime]")
    assert "out.npz: limited float32 " in mine.ok(*RUN, "folder=received")  # its engines are of this store


@pytest.mark.tensorrt
def test_real_engines_of_another_machine(toy: Project, feeds: Feeds) -> None:
    """TensorRT-RTX builds for GPUs that are not here; what it built cannot run, and the fallback does."""
    pytest.importorskip("tensorrt_rtx_bindings")
    if gpus():
        pytest.skip("this machine has a GPU")
    only = ("backend=tensorrt_rtx", "precision=fp16", "targets=[embedder]")
    np.savez(toy.root / "in.npz", tokens=feeds()["tokens"])
    out = toy.ok(*RUN, *only, "on_mismatch=onnxruntime")
    assert re.search(r"^ embedder: onnxruntime in place of tensorrt_rtx: needs an NVIDIA GPU, and ", out, re.MULTILINE)
    assert out.splitlines()[-1] == "out.npz: features float32 [1, 5, 8]"
    assert "embedder.engine: needs an NVIDIA GPU, and there is none here" in toy.fails(*RUN, *only)


def test_a_policy_without_anything_to_fall_back_to(toy: Project) -> None:
    """ONNX Runtime's own engines have no other one beside them."""
    toy.ok("on_mismatch=onnxruntime")
    (folder,) = (toy.outputs / "chime").glob("onnxruntime-fp32-*")
    (folder / "synth.onnx").unlink()
    with pytest.raises(ArtefactError, match=r"synth\.onnx: No such file"):
        Pipeline.load(folder)


def test_the_command_line_decides_over_the_folder(mine: Project, feeds: Feeds) -> None:
    with_feeds(mine, feeds)
    folder = folder_of(mine)
    (folder / "synth.safetensors").unlink()
    missing = f"error: {folder / 'synth.safetensors'}: No such file or directory\n"
    assert mine.fails(*RUN, f"folder={folder}", "on_mismatch=fail").startswith(missing)
    own = "+component.synth.on_mismatch=fail"
    assert mine.fails(*RUN, f"folder={folder}", own).startswith(missing)
    assert mine.fails(*RUN, f"folder={folder}", "on_mismatch=tensorrt") == (
        "error: synth: No such file or directory\n"
        "  this folder holds no tensorrt to run in its place; build it with on_mismatch=tensorrt, or rebuild\n"
    )


def test_what_is_built_again_at_load(toy: Project, feeds: Feeds) -> None:
    with_feeds(toy, feeds)
    shutil.copytree(toy.folder, toy.root / "engines")
    (toy.root / "engines" / "synth.onnx").unlink()
    (toy.root / "engines" / "synth.onnx").write_bytes(b"of another machine")
    before = toy.fails(*RUN, "paths.engines=engines")
    assert before.startswith("error: engines/synth.onnx: is not the file that was built (sha256 ")
    out = toy.ok(*RUN, "paths.engines=engines", "on_mismatch=rebuild")
    first, again, built, where, *_ = out.splitlines()
    assert first == "engines: engines (paths.engines)"
    assert again.startswith("synth: is not the file that was built (sha256 ") or again.startswith("synth: synth.onnx")
    assert again.endswith("): built again here (on_mismatch=rebuild)")
    assert "17 steps reused" in built
    assert re.fullmatch(r"engines: outputs/chime/onnxruntime-fp32-\w{6} \(built again\)", where)


def test_faults_of_a_policy(toy: Project) -> None:
    assert toy.fails("on_mismatch=rebiuld").startswith(
        "error: on_mismatch: unknown policy 'rebiuld'\n  fail, rebuild, or a backend: "
    )
    assert toy.fails("on_mismatch=torch") == (
        "error: component.limiter.on_mismatch: torch runs a component's own module, and this one has none\n"
        "  component.limiter.on_mismatch=fail, or another backend\n"
    )


# -- backend=auto ----------------------------------------------------------------------------------


def test_auto_is_what_it_chose(toy: Project) -> None:
    out = toy.ok("backend=auto", "backend.auto.order=[onnxruntime]", "task=plan")
    assert out.splitlines()[0] == "backend auto → onnxruntime"
    auto = toy.ok("backend=auto")
    first, second = auto.splitlines()
    if "onnxruntime" in first:  # a machine without a GPU
        assert re.match(r"backend auto → onnxruntime: tensorrt .*; tensorrt_rtx ", first)
        assert second.startswith("chime on onnxruntime, fp32: nothing to do, 17 steps reused → ")
        assert second.endswith("outputs/chime/onnxruntime-fp32/manifest.json")


def test_doctor_says_what_auto_would_take(master: ProjectClass) -> None:
    out = master.ok("task=doctor")
    for row in ("backend=torch", "NVIDIA GPU", "backend=tensorrt", "backend=tensorrt_rtx", "backend=auto"):
        assert re.search(rf"^ {row}  +\S", out, re.MULTILINE), row
    assert re.search(r"^ backend=auto +→ \w+", out, re.MULTILINE)
