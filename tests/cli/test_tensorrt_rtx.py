"""Engines for GPUs that are not here, by the real TensorRT-RTX builder."""

from __future__ import annotations

import json
import re

import pytest

from tests.conftest import Project, copied

pytest.importorskip("tensorrt_rtx_bindings")

RTX = ("backend=tensorrt_rtx", "precision=fp16")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, master: Project) -> tuple[Project, str]:
    project = copied(master, tmp_path_factory.mktemp("rtx") / "project")
    return project, project.ok(*RTX)


def sidecar(project: Project, component: str, folder: str = "tensorrt_rtx-fp16") -> dict:
    return json.loads((project.outputs / "chime" / folder / f"{component}.engine.json").read_bytes())


def test_every_component_is_an_engine_and_nothing_is_said_to_be_measured(built: tuple[Project, str]) -> None:
    project, out = built
    rows = re.findall(r"^ (?:embedder|synth|limiter|end to end) .*", out[out.index(" component ") :], re.MULTILINE)
    assert len(rows) == 4
    assert all("not run here" in row for row in rows)
    assert "engines are for compute capability 7.5, 8.9: nothing here can run, measure or gate them" in out
    names = {p.name for p in (project.outputs / "chime" / "tensorrt_rtx-fp16").iterdir()}
    components = ("embedder", "synth", "limiter")
    assert names == {"manifest.json"} | {f"{c}{s}" for c in components for s in (".engine", ".engine.json")}


def test_the_manifest_claims_no_parity(built: tuple[Project, str]) -> None:
    project, _ = built
    manifest = json.loads((project.outputs / "chime" / "tensorrt_rtx-fp16" / "manifest.json").read_bytes())
    assert manifest["end_to_end"] is None
    for c in manifest["components"]:
        assert c["parity"] is None
        assert c["backend"]["environment"]["compute_capabilities"] == ["7.5", "8.9"]
        assert c["beside"].keys() == {f"{c['name']}.engine.json"}


def test_names_types_and_profiles_stand_beside_the_engine(built: tuple[Project, str]) -> None:
    project, _ = built
    said = sidecar(project, "synth")
    manifest = json.loads((project.outputs / "chime" / "tensorrt_rtx-fp16" / "manifest.json").read_bytes())
    synth = next(c for c in manifest["components"] if c["name"] == "synth")
    assert said["compute_capability"] == ["7.5", "8.9"]
    assert said["inputs"].keys() == synth["inputs"].keys()
    assert list(said["outputs"]) == list(synth["outputs"])
    for local, wire in synth["inputs"].items():
        assert said["inputs"][local]["dtype"] == manifest["tensors"][wire]["dtype"]
        points = said["profiles"][0][local]
        assert points.keys() == {"min", "opt", "max"}
        assert all(a <= b <= c for a, b, c in zip(points["min"], points["opt"], points["max"], strict=True))


def test_a_second_build_has_nothing_to_do(built: tuple[Project, str]) -> None:
    project, _ = built
    assert "nothing to do" in project.ok(*RTX)


def test_another_target_builds_engines_alone(built: tuple[Project, str]) -> None:
    project, _ = built
    planned = project.plan(*RTX, "backend.options.compute_capabilities=['8.6']")
    assert {step.rpartition(".")[2] for step, (verb, _) in planned.items() if verb == "run"} == {"build"}


def test_buckets_are_profiles(built: tuple[Project, str]) -> None:
    project, _ = built
    project.ok(*RTX, "+dims.length.buckets=[6]", "targets=[synth]")
    folder = next(p.name for p in (project.outputs / "chime").glob("tensorrt_rtx-fp16-*"))
    profiles = sidecar(project, "synth", folder)["profiles"]
    assert len(profiles) == 2
    sizes = [p["features"] for p in profiles]
    assert sizes[0]["max"] != sizes[1]["max"]


def test_an_engine_of_another_machine_is_not_loaded(built: tuple[Project, str]) -> None:
    project, _ = built
    code = (
        "from autovoice.runtime.pipeline import Pipeline; from autovoice.errors import AutovoiceError\n"
        "try: Pipeline.load('outputs/chime/tensorrt_rtx-fp16')\n"
        "except AutovoiceError as e: print(e)"
    )
    said = project.python(code).splitlines()
    assert "needs an NVIDIA GPU, and there is none here" in said[0] or "was built for compute capability" in said[0]
    assert len(said) == 2


def test_inspect_says_what_the_network_computes_in(built: tuple[Project, str]) -> None:
    project, _ = built
    said = project.ok("task=inspect", "component.synth", *RTX)
    assert "asked fp16, told by the network" in said
    assert re.search(r"computes in: .*float16 \d+", said)


@pytest.mark.parametrize(
    ("arguments", "fact", "fix"),
    [
        (
            ("backend=tensorrt_rtx", "backend.options.compute_capabilities=['9.0']"),
            "tensorrt_rtx has no compute capability 9.0",
            "backend=tensorrt",
        ),
        (("backend=tensorrt_rtx", "precision=bf16"), "bfloat16 needs compute capability 8.0", "precision=fp16"),
        (("backend=tensorrt_rtx", "backend.options.workspace_mb=0"), "workspace_mb: 0", "at least 1"),
        (
            ("backend=tensorrt_rtx", "+backend.options.workspace=1"),
            "unknown key 'workspace'",
            "did you mean 'workspace_mb'?",
        ),
        (
            ("backend=tensorrt_rtx", "backend.passes=[lift_conv2d]"),
            "there is no pass 'lift_conv2d'",
            "lift_conv1d",
        ),
        (
            ("backend=tensorrt_rtx", "backend.options.compute_capabilities=[]"),
            "no GPU to build for",
            "compute_capabilities",
        ),
    ],
    ids=["capability", "precision", "value", "key", "pass", "no GPU"],
)
def test_what_cannot_be_built_is_refused_in_two_lines(
    built: tuple[Project, str], arguments: tuple[str, ...], fact: str, fix: str
) -> None:
    project, _ = built
    said = project.fails(*arguments)
    assert fact in said
    assert fix in said
