"""`fuse=` as a user types it: components of the toy pipeline as one engine, beside a build that has them apart."""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest

if TYPE_CHECKING:
    from tests.conftest import Project

PLAYER = "fuse={player: [synth, limiter]}"
INT8 = ("precision=int8", "calibration=synthetic")


@pytest.fixture(scope="module")
def project(toy_project: Project) -> Project:
    """The plain pipeline, built; what one test builds the next one reuses."""
    toy_project.ok()
    return toy_project


def built(project: Project, said: str) -> tuple[Path, dict[str, Any]]:
    folder = (project.root / said.splitlines()[-1].split("→")[-1].strip()).parent
    manifest: dict[str, Any] = json.loads((folder / "manifest.json").read_bytes())
    return folder, manifest


def row(said: str, name: str) -> str:
    return next(line for line in said.splitlines() if re.match(rf" {name} +\S", line) and " nodes" in line)


def test_members_are_reused_and_one_engine_is_built(
    project: Project, read_plan: Callable[[str], dict[str, tuple[str, str]]]
) -> None:
    planned = project.plan(PLAYER)
    assert {s for s, (verb, _) in planned.items() if verb == "run"} == {
        *(f"player.{k}" for k in ("fuse", "lower", "build", "verify")),
        "end_to_end",
    }
    assert {s: planned[s] for s in ("synth.export", "synth.reference", "limiter.export", "limiter.reference")} == (
        dict.fromkeys(
            ("synth.export", "synth.reference", "limiter.export", "limiter.reference"), ("reuse", "unchanged")
        )
    )
    said = project.ok(PLAYER)
    assert re.match(r" player +fp32 +fp32 11/11 nodes +\d\.\d kB +\d+\.\d dB ≥ 60 ", row(said, "player"))
    assert "synth" not in said.split(" component ")[1]
    folder, manifest = built(project, said)
    assert sorted(p.name for p in folder.iterdir()) == ["embedder.onnx", "manifest.json", "player.onnx"]
    player = manifest["components"][1]
    assert (player["inputs"], list(player["outputs"])) == (
        {"features": "features", "gains": "gains"},
        ["energy", "limited"],
    )
    assert player["members"]["synth"]["target"] == "chime.synth.Synth"
    assert list(player["members"]["limiter"]["files"]) == ["onnx"]
    assert manifest["components"][0]["members"] == {}
    again = project.ok(PLAYER)
    assert "nothing to do, 15 steps reused" in again


def test_it_computes_what_the_components_do_apart(
    project: Project, feeds: Callable[..., dict[str, np.ndarray]]
) -> None:
    folder, _ = built(project, project.ok(PLAYER))
    np.savez(project.root / "feeds.npz", **feeds(7, 2))
    found = []
    for name, engines in (("apart", project.folder), ("one", folder)):
        project.ok("task=run", "feeds=feeds.npz", f"folder={engines}", f"output={name}.npz")
        found.append(np.load(project.root / f"{name}.npz"))
    apart, one = found
    assert sorted(one.files) == sorted(apart.files) == ["energy", "limited"]
    for wire in one.files:
        np.testing.assert_allclose(one[wire], apart[wire], rtol=1e-5, atol=1e-6)


def test_axes_are_called_as_declared(project: Project) -> None:
    folder, _ = built(project, project.ok(PLAYER))
    graph = onnx.load(folder / "player.onnx").graph
    axes = {v.name: [d.dim_param for d in v.type.tensor_type.shape.dim][:2] for v in (*graph.input, *graph.output)}
    assert axes == {
        "features": ["n", "length"],
        "gains": ["n", ""],
        "energy": ["n", "length"],
        "limited": ["n", "2*length"],
    }


def test_a_fused_target_and_what_explains_it(project: Project) -> None:
    said = project.ok("fuse={start: [embedder, synth]}", "targets=[start]")
    assert [c["name"] for c in built(project, said)[1]["components"]] == ["start"]
    explained = project.ok("task=explain", "fuse={start: [embedder, synth]}", "component.start")
    steps = re.findall(r"^ (\S+)  (?:run|reuse)  key", explained, re.MULTILINE)
    assert {"start.fuse", "start.build", "embedder.export", "synth.reference"} <= set(steps)
    assert not any(s.startswith("limiter") for s in steps)
    assert project.fails("fuse={start: [embedder, synth]}", "targets=[synth]") == (
        "error: targets: 'synth' is part of the fused component 'start'\n  targets=[start], or fuse=null\n"
    )


def test_in_half_precision(project: Project) -> None:
    said = project.ok(PLAYER, "precision=fp16", '+component.synth.keep={nodes: ["node_conv*"]}')
    assert re.match(r" player +fp16 +fp16 10/11 nodes ", row(said, "player"))
    folder, _ = built(project, said)
    graph = onnx.load(folder / "player.onnx").graph
    (conv,) = (n for n in graph.node if n.op_type == "ConvTranspose")
    types = {t.name: t.data_type for t in graph.initializer}
    assert types[conv.input[1]] == onnx.TensorProto.FLOAT


def test_in_8_bits_by_the_ranges_of_its_members(project: Project) -> None:
    exported = project.exports()
    said = project.ok("fuse={start: [embedder, synth, limiter]}", *INT8)
    assert re.search(r"^ start +int8 +int8 1/2 Conv/MatMul ", said, re.MULTILINE)
    assert "calibrated on synthetic, 8 samples" in said
    assert project.exports() == exported
    _, manifest = built(project, said)
    (start,) = manifest["components"]
    assert start["calibration"]["samples"] == 8
    assert start["calibration"]["quantized"] == ["node_MatMul_5"]
    observed = {s for s in manifest["steps"] if s.endswith(".observe")}
    assert observed == {"embedder.observe", "synth.observe", "limiter.observe"}


def test_search_looks_at_members_one_by_one(project: Project) -> None:
    group = "fuse={start: [embedder, synth]}"
    error = project.fails("task=sensitivity", group, "targets=[start]", *INT8)
    assert error == (
        "error: targets: 'start' is fused of embedder, synth\n"
        "  one after another: fuse=null targets=[embedder]; their policies hold in the fused one\n"
    )
    assert "mix.weight" in project.ok("task=sensitivity", group, *INT8)


def test_a_pipeline_may_fuse_in_its_own_file(fresh: Project) -> None:
    fresh.edit(
        "conf/pipeline/chime.yaml",
        "pipeline:\n  name: chime",
        "fuse:\n  player: [synth, limiter]\n\npipeline:\n  name: chime",
    )
    assert "player.fuse" in fresh.plan()
    assert "player.fuse" not in fresh.plan("fuse=null")


@pytest.mark.skipif(importlib.util.find_spec("tensorrt_rtx_bindings") is None, reason="needs TensorRT-RTX")
def test_by_tensorrt_rtx_with_a_profile_for_each_bucket(project: Project) -> None:
    rtx = ("backend=tensorrt_rtx", "backend.options.compute_capabilities=['8.9']")
    said = project.ok("fuse={start: [embedder, synth]}", "targets=[start]", "+dims.length.buckets=[4,8]", *rtx)
    folder, manifest = built(project, said)
    sidecar = json.loads((folder / "start.engine.json").read_bytes())
    spans = [[p["tokens"][point][1] for point in ("min", "opt", "max")] for p in sidecar["profiles"]]
    assert spans == [[2, 4, 4], [5, 8, 8], [9, 12, 12]]
    assert list(manifest["components"][0]["members"]) == ["embedder", "synth"]
