"""A project of three ONNX files that builds in a second, and whose engines say by their values what they were made of.

Its pipeline computes `tanh(gain * x + offset)`, a component each for product, sum and tanh: engines of two builds
side by side compute what neither build does.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

WIDTH = 8
_SHAPE = ["n", "length", WIDTH]
#: what float16 may differ by; builds differ by more, see `random_build`
_TOLERANCE = {"fp32": 1e-5, "fp16": 4e-3}


@dataclass(frozen=True)
class Build:
    """What one build is to compute; `extra` adds a component, `longest` is a dim's maximum."""

    gain: float = 1.0
    offset: float = 0.0
    extra: bool = False
    precision: str = "fp32"
    longest: int = 12

    def outputs(self, x: np.ndarray) -> dict[str, np.ndarray]:
        y = np.tanh(self.gain * x + self.offset)
        return {"squashed": y, **({"negated": -y} if self.extra else {})}


def random_build(rng: Random) -> Build:
    """Gains and offsets are far enough apart for float16 to tell them from one another."""
    gain, offset = rng.randrange(5, 30) / 10, rng.randrange(-10, 11) / 10
    return Build(gain, offset, rng.random() < 0.3, rng.choice(["fp32", "fp32", "fp16"]), rng.choice([12, 12, 14]))


def feeds() -> dict[str, np.ndarray]:
    return {"x": np.random.default_rng(7).uniform(-1, 1, (1, 5, WIDTH)).astype(np.float32)}


def matches(build: Build, got: dict[str, np.ndarray]) -> bool:
    """Whether these outputs are the ones of that build."""
    wanted = build.outputs(feeds()["x"])
    near = _TOLERANCE[build.precision]
    return wanted.keys() == got.keys() and all(np.abs(got[n] - wanted[n]).max() <= near for n in wanted)


@dataclass(frozen=True)
class Small:
    """The project's folder."""

    root: Path

    @property
    def outputs(self) -> Path:
        return self.root / "outputs"

    @property
    def store(self) -> Path:
        return self.outputs / "store"

    def folder(self, build: Build) -> Path:
        return self.outputs / "small" / f"onnxruntime-{build.precision}"

    def manifest(self, build: Build) -> dict[str, Any]:
        data: dict[str, Any] = json.loads((self.folder(build) / "manifest.json").read_bytes())
        return data

    # -- its files --------------------------------------------------------------------------------

    def write(self, build: Build) -> None:
        """Make the project's own files say that build; those that say it already keep their times."""
        weights = {
            "gain": ("Mul", np.full(1, build.gain, np.float32)),
            "offset": ("Add", np.full(1, build.offset, np.float32)),
            "squash": ("Tanh", None),
            "negate": ("Neg", None),
        }
        for name, (op, constant) in weights.items():
            _write(self.root / "weights" / f"{name}.onnx", _model(op, constant).SerializeToString())
        pipeline = f"# @package _global_\n{json.dumps(_pipeline(build), indent=1)}\n"
        _write(self.root / "conf" / "pipeline" / "small.yaml", pipeline.encode())
        dims = f"n: {{min: 1, opt: 1, max: 2, trace: 2}}\nlength: {{min: 2, opt: 5, max: {build.longest}, trace: 6}}\n"
        _write(self.root / "conf" / "dims" / "small.yaml", dims.encode())

    def arguments(self, build: Build) -> list[str]:
        return ["--config-dir", "conf", "pipeline=small", f"precision={build.precision}"]

    # -- what is on the disk ----------------------------------------------------------------------

    def broken_artefacts(self, known: set[Path] | None = None) -> Iterator[str]:
        """Every folder in the store that is not what its record says; with `known`, of those not looked at before."""
        for folder in sorted(self.store.glob("objects/*/*")):
            if known is not None and folder in known:
                continue
            fault = _fault(folder)
            if fault:
                yield f"{folder.relative_to(self.root)}: {fault}"
            elif known is not None:
                known.add(folder)

    def leftovers(self) -> list[str]:
        """What a run that was killed may leave, and the next one may not."""
        tmp = self.store / "tmp"
        left = [*(tmp.iterdir() if tmp.is_dir() else ()), *self.outputs.rglob(".*")]
        return sorted({str(p.relative_to(self.root)) for p in left})

    def copy_to(self, root: Path) -> Small:
        """The project, its times and hard links as they are, in place of what stands at `root`."""
        shutil.rmtree(root, ignore_errors=True)
        subprocess.run(["cp", "-a", str(self.root), str(root)], check=True)
        return Small(root)


def _fault(folder: Path) -> str | None:
    """Why an artefact is not the one that was committed."""
    try:
        files = json.loads((folder / "record.json").read_bytes())["files"]
        for name, file in files.items():
            if hashlib.sha256((folder / name).read_bytes()).hexdigest() != file["sha256"]:
                return f"{name} has another digest than its record says"
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as e:
        return f"{type(e).__name__}: {e}"
    return None


def _write(path: Path, content: bytes) -> None:
    if not path.is_file() or path.read_bytes() != content:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def _model(op: str, constant: np.ndarray | None) -> onnx.ModelProto:
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, _SHAPE) for n in "xy")
    given = [] if constant is None else [numpy_helper.from_array(constant, "constant")]
    node = helper.make_node(op, ["x", *(g.name for g in given)], ["y"], op.lower())
    graph = helper.make_graph([node], op.lower(), [x], [y], given)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def _pipeline(build: Build) -> dict[str, Any]:
    chain = [("gain", "x", "scaled"), ("offset", "scaled", "shifted"), ("squash", "shifted", "squashed")]
    if build.extra:
        chain.append(("negate", "squashed", "negated"))
    return {
        "defaults": [{"/dims": "small"}],
        "pipeline": {
            "name": "small",
            "inputs": {"x": {"dtype": "float32", "shape": _SHAPE}},
            "outputs": ["squashed", *(["negated"] if build.extra else [])],
        },
        "component": {name: _component(name, reads, writes) for name, reads, writes in chain},
    }


def _component(name: str, reads: str, writes: str) -> dict[str, Any]:
    output = {"onnx_name": "y", "dtype": "float32", "shape": _SHAPE}
    return {"onnx": f"weights/{name}.onnx", "inputs": {"x": reads}, "outputs": {writes: output}}
