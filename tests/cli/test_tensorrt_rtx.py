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


def rows_of(out: str) -> list[str]:
    """The rows of a build's table: three components, and the whole."""
    rows = re.findall(r"^ (?:embedder|synth|limiter|end to end) .*", out[out.index(" component ") :], re.MULTILINE)
    assert len(rows) == 4
    return rows


def manifest_of(project: Project, folder: str = "tensorrt_rtx-fp16") -> dict:
    return json.loads((project.outputs / "chime" / folder / "manifest.json").read_bytes())


def test_every_component_is_an_engine_and_its_graph_is_held_against_pytorch(built: tuple[Project, str]) -> None:
    project, out = built
    assert all(re.search(r" graph (identical|\d+\.\d dB ≥ \d+) ", row) for row in rows_of(out))
    assert "engines are for compute capability 7.5, 8.9: nothing here can run or measure them; onnxruntime ran" in out
    names = {p.name for p in (project.outputs / "chime" / "tensorrt_rtx-fp16").iterdir()}
    components = ("embedder", "synth", "limiter")
    assert names == {"manifest.json"} | {f"{c}{s}" for c in components for s in (".engine", ".engine.json")}


def test_the_manifest_says_what_a_parity_is_of(built: tuple[Project, str]) -> None:
    project, _ = built
    manifest = manifest_of(project)
    assert manifest["end_to_end"]["graphs"] == ["embedder", "synth", "limiter"]
    assert manifest["end_to_end"]["gates"]
    for c in manifest["components"]:
        assert c["parity_of"] == {"of": "graph", "by": "onnxruntime"}
        assert c["parity"].keys() == {"min", "opt", "max", "between"}
        assert c["backend"]["environment"]["compute_capabilities"] == ["7.5", "8.9"]
        assert c["beside"].keys() == {f"{c['name']}.engine.json"}


def test_what_is_run_is_the_graph_that_the_builder_was_given(built: tuple[Project, str], master: Project) -> None:
    """The rewritten one: of another digest than what was lowered, in which float16 has left its mark."""
    project, _ = built
    steps = manifest_of(project)["steps"]
    records = {r["key"]: r for r in project.records()}
    assert records[steps["synth.verify"]]["inputs"]["needs"]["build"] == steps["synth.passes"]
    plain = next(c for c in master.manifest["components"] if c["name"] == "synth")
    assert plain["parity_of"] == {"of": "engine"}
    parity = next(c for c in manifest_of(project)["components"] if c["name"] == "synth")["parity"]
    assert parity["opt"]["signal"]["snr_db"] < 90 < plain["parity"]["opt"]["signal"]["snr_db"]


def test_a_graph_below_its_gate_publishes_no_engine(built: tuple[Project, str]) -> None:
    project, _ = built
    said = project.fails(*RTX, "gate.component.snr_db.fp16=150", "keep_going=true")
    assert re.search(r"\nsynth\.verify: snr_db \d+\.\d+ of 'signal' at \w+ \[.*\], the gate asks ≥ 150\n  ", said)
    assert len(list((project.outputs / "chime").glob("tensorrt_rtx-fp16*"))) == 1


def test_without_a_stand_in_nothing_is_gated_and_that_is_said(built: tuple[Project, str]) -> None:
    project, _ = built
    out = project.ok(*RTX, "backend.gated_by=null", "backend.options.compute_capabilities=['8.6','8.9']")
    assert all("not run here" in row for row in rows_of(out))
    assert "engines are for compute capability 8.6, 8.9: nothing here can run, measure or gate them" in out
    folder = next(p.name for p in (project.outputs / "chime").glob("tensorrt_rtx-fp16-*"))
    manifest = manifest_of(project, folder)
    assert manifest["end_to_end"] is None
    assert (
        [c["parity"] for c in manifest["components"]] == [c["parity_of"] for c in manifest["components"]] == [None] * 3
    )


def test_a_sweep_over_precisions_tells_what_of_them_is_gated(built: tuple[Project, str]) -> None:
    """ONNX Runtime has no bfloat16: those builds have a size to compare, and no accuracy."""
    project, _ = built
    given = ("-m", "backend=tensorrt_rtx", "backend.options.compute_capabilities=['8.9']", "precision=fp16,bf16")
    out = project.ok(*given, "hydra.sweep.dir=sweep")
    told = [json.loads(p.read_bytes()) for p in sorted(project.root.glob("sweep/*/objectives.json"))]
    assert [t["objectives"].keys() for t in told] == [{"snr_db", "megabytes"}, {"megabytes"}]
    assert re.search(r"^ + megabytes +overrides$", out, re.MULTILINE)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            ("backend.gated_by=torch",),
            "error: backend.gated_by: torch does not run an ONNX graph as it is\n  gated_by: onnxruntime, or null\n",
        ),
        (
            ("backend.gated_by=onnxruntme",),
            "error: backend.gated_by: unknown backend 'onnxruntme'\n  did you mean 'onnxruntime'? available: ",
        ),
        (
            ("precision=int8", "calibration=synthetic", "only_if_faster=true"),
            "only_if_faster: engines of tensorrt_rtx for another machine than this one cannot be timed here\n"
            "  only_if_faster=false, or ",
        ),
    ],
    ids=["no graphs", "unknown", "cannot be timed"],
)
def test_what_cannot_gate_or_time_is_refused(built: tuple[Project, str], given: tuple[str, ...], said: str) -> None:
    project, _ = built
    assert said in project.fails(*RTX, *given)


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
    assert "asked fp16, reported by the network" in said
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
