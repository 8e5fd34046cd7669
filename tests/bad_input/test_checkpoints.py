"""Weights that do not load, one component each in one build."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

if TYPE_CHECKING:
    from tests.conftest import Project, Result

SHAPES = {"table.weight": (32, 8), "mix.weight": (8, 8), "mix.bias": (8,)}


class Intruder:
    """A pickle of it runs a command wherever it is loaded."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.mark}",)


def write_checkpoints(folder: Path, mark: Path) -> dict[str, str]:
    """One file a component name."""
    right = {name: torch.full(shape, 0.5) for name, shape in SHAPES.items()}
    torch.save(right, folder / "right.pt")
    torch.save({n: v for n, v in right.items() if n != "mix.bias"}, folder / "missing.pt")
    torch.save({**right, "mix.scale": torch.ones(8)}, folder / "extra.pt")
    torch.save({**right, "mix.weight": torch.ones(8, 9)}, folder / "misshapen.pt")
    torch.save({"generator": right}, folder / "nested.pt")
    torch.save({**right, "table.weight": Intruder(mark)}, folder / "intruder_zip.pt")
    (folder / "intruder_pickle.pt").write_bytes(pickle.dumps(Intruder(mark)))
    (folder / "truncated.pt").write_bytes((folder / "right.pt").read_bytes()[:700])
    (folder / "truncated.safetensors").write_bytes(b"\x40\0\0\0\0\0\0\0{")
    (folder / "empty.pt").touch()
    return {
        p.stem + ("_st" if p.suffix == ".safetensors" else ""): f"weights/{p.name}" for p in folder.glob("*.[ps]*t*")
    }


@pytest.fixture(scope="module")
def mark(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file that only a pickle's code would make."""
    return tmp_path_factory.mktemp("mark") / "executed"


@pytest.fixture(scope="module")
def built(toy_project: Project, mark: Path) -> tuple[Project, Result]:
    files = write_checkpoints(toy_project.root / "weights", mark)
    components = {
        name: {
            "model": {"_target_": "chime.embedder.Embedder", "vocabulary": 32, "width": 8},
            "checkpoint": path,
            "inputs": {"ids": "tokens", "present": "present"},
            "outputs": {f"from_{name}": {"dtype": "float32", "shape": ["n", "length", 8]}},
        }
        for name, path in files.items()
    }
    inputs = {
        "tokens": {"dtype": "int64", "shape": ["n", "length"], "example": {"integers": [0, 31]}},
        "present": {"dtype": "bool", "shape": ["n", "length"]},
    }
    project = toy_project.pipeline("weighted", components, inputs)
    return project, project.run("keep_going=true")


FETCH = "fetch it again if it was cut short; otherwise save a plain state_dict, best as .safetensors"
PART = "set key or prefix to the module's part of the file, or strict=false to load the names that agree: component."
TRUST = "if you trust its author, convert it once: python -c "
CASES = {
    "missing": ("missing.pt' does not fit Embedder: 1 of 3 parameters missing (mix.bias)", PART),
    "extra": ("extra.pt' does not fit Embedder: 1 of 4 unexpected (mix.scale)", PART),
    "misshapen": (
        "1 of 3 parameters have another shape in '{}misshapen.pt': mix.weight: got (8, 9), expected (8, 8)",
        "set the module's sizes to the checkpoint's; strict=false does not skip shapes",
    ),
    "nested": (
        "nested.pt' holds no tensors by name but a dict",
        "set key to the state dict to load, as component.nested.checkpoint='{{path: {}nested.pt, key: generator}}'; "
        "available: generator",
    ),
    "intruder_zip": (
        "checkpoint '{}intruder_zip.pt' is a pickle that would run code on loading (it imports posix.system)",
        TRUST,
    ),
    "intruder_pickle": (
        "checkpoint '{}intruder_pickle.pt' is a pickle that would run code on loading (it imports posix.system)",
        TRUST,
    ),
    "truncated": ("truncated.pt' is not a readable PyTorch file (700 bytes): ", FETCH),
    "truncated_st": ("truncated.safetensors' is not a readable safetensors file (9 bytes): ", FETCH),
    "empty": ("empty.pt' is not a readable PyTorch file (0 bytes): ", FETCH),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("step", ["export", "reference"])
def test_the_message_names_the_file_and_the_way_out(built: tuple[Project, Result], name: str, step: str) -> None:
    project, result = built
    fact, fix = (text.format(f"{project.root}/weights/") for text in CASES[name])
    lines = result.err.removeprefix("error: ").splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith(f"{name}.{step}: "))
    assert fact in lines[at]
    assert lines[at + 1].startswith(f"  {fix}")


def test_no_code_of_a_pickle_has_run(built: tuple[Project, Result], mark: Path) -> None:
    assert "intruder_zip.export" in built[1].err
    assert not mark.exists()
    with open(built[0].root / "weights" / "intruder_pickle.pt", "rb") as file:
        pickle.load(file)
    assert mark.exists()  # it would have, had anyone loaded it
    mark.unlink()


def test_exit_code_and_traces(built: tuple[Project, Result]) -> None:
    project, result = built
    assert result.code == 1
    assert "Traceback" not in result.out + result.err
    assert project.half_written() == []


def test_the_right_weights_are_those_of_the_file(built: tuple[Project, Result]) -> None:
    """They are all 0.5: an embedding of 0.5 through a Linear of 0.5 and bias 0.5 gives 8 · 0.25 + 0.5."""
    project, _ = built
    project.ok("targets=[right]")
    (folder,) = (project.outputs / "weighted").iterdir()
    np.savez(project.root / "in.npz", tokens=np.array([[3, 4]]), present=np.array([[True, False]]))
    project.ok("task=run", f"folder={folder}", "feeds=in.npz", "output=out.npz")
    with np.load(project.root / "out.npz") as data:
        assert data["from_right"][0, :, 0].tolist() == [2.5, 0.0]


def test_weights_replaced_while_they_are_read_are_read_again(toy_project: Project) -> None:
    """The module itself puts another file there: what was read may be of either, and the build plans again."""
    path = toy_project.root / "weights" / "moving.safetensors"
    save_file({"scale": torch.full((8,), 2.0)}, path)
    component = {
        "model": {"_target_": "faulty.modules.RewritesWeights", "path": "weights/moving.safetensors"},
        "checkpoint": "weights/moving.safetensors",
        "inputs": ["x"],
        "outputs": {"y": {"dtype": "float32", "shape": ["n", "length", 8]}},
    }
    tensors = {"x": {"dtype": "float32", "shape": ["n", "length", 8]}}
    project = toy_project.pipeline("moving", {"mover": component}, tensors)
    assert f" {path}: not what was planned with; planned again\n" in project.ok("workers=1")
    models = [r["inputs"] for r in project.records() if r["inputs"]["fields"].get("model")]
    read = {r["files"]["checkpoint"] for r in models if r["fields"]["model"]["target"].endswith("RewritesWeights")}
    assert read == {hashlib.sha256(path.read_bytes()).hexdigest()}
    manifest = json.loads((project.outputs / "moving" / "onnxruntime-fp32" / "manifest.json").read_bytes())
    assert manifest["components"][0]["source"]["files"] == dict.fromkeys(("checkpoint", "model.path"), *read)


def test_weights_that_the_file_lacks_are_noted(toy_project: Project) -> None:
    torch.save(
        {name: torch.ones(shape) for name, shape in SHAPES.items() if name != "mix.bias"},
        toy_project.root / "weights" / "part.pt",
    )
    out = toy_project.ok("component.embedder.checkpoint={path: weights/part.pt, strict: false}", "targets=[embedder]")
    assert "\n note: embedder has 2 of 3 parameters from part.pt, the rest is seeded\n" in out
    manifest = json.loads((toy_project.root / out.splitlines()[-1]).read_bytes())
    weights = {"checkpoint": "part.pt", "loaded": 2, "missing": 1, "extra": 0}
    assert manifest["components"][0]["source"]["weights"] == weights


def test_another_content_is_another_export(built: tuple[Project, Result]) -> None:
    project, _ = built
    project.ok("targets=[right]")
    torch.save({n: torch.zeros(s) for n, s in SHAPES.items()}, project.root / "weights" / "right.pt")
    assert project.plan("targets=[right]")["right.export"] == ("run", "content of checkpoint changed")
