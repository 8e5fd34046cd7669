"""A project for int8: the toy one, with an embedder of tokens and a mixer that can be quantized in three places.

The package `tones` is written into it, with calibration sources and calibrators of its own.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

if TYPE_CHECKING:
    from tests.conftest import Project

OWN = {key: f"${{{key}}}" for key in ("precision", "backend", "calibration", "gate")}
INPUTS = {
    "tokens": {"dtype": "int64", "shape": ["n", "length"], "example": {"integers": [0, 31]}},
    "present": {"dtype": "bool", "shape": ["n", "length"], "default": True, "example": {"bernoulli": 0.9}},
    "gains": {"dtype": "float32", "shape": ["n", 8]},
}
EMBEDDER = {
    "model": {"_target_": "chime.embedder.Embedder", "vocabulary": 32, "width": 8},
    "inputs": {"ids": "tokens", "present": "present"},
    "outputs": {"features": {"dtype": "float32", "shape": ["n", "length", 8]}},
    **OWN,
}
MIXER = {
    "model": {"_target_": "tones.mixer.Mixer", "width": 32},
    "inputs": ["features", "gains"],
    "outputs": {"mixed": {"dtype": "float32", "shape": ["n", 8, "length"]}},
    **OWN,
}
MODULE = '''"""Features to a mix of them."""

import torch
from torch import nn


class Mixer(nn.Module):
    """features float32 [n, length, 8], gains float32 [n, 8] → mixed float32 [n, 8, length]."""

    def __init__(self, width):
        super().__init__()
        self.head = nn.Linear(8, width)
        self.body = nn.Conv1d(width, width, 3, padding=1)
        self.tail = nn.Conv1d(width, 8, 3, padding=1)

    def forward(self, features, gains):
        x = torch.relu(self.head(features)).transpose(1, 2)
        x = torch.relu(self.body(x))
        return self.tail(x) * (1 + 0.1 * torch.tanh(gains)).unsqueeze(-1)
'''
SOURCES = '''"""Calibration data of the project's own."""

import numpy as np


def samples(inputs, count=22, without=()):
    """Of whatever component, or of the pipeline, by the declared dtypes; lengths 2 to 12, all tokens."""
    rng = np.random.default_rng(1)
    for index in range(count):
        sizes = {"n": 1, "length": 2 + index % 11}
        made = {}
        for name, tensor in inputs.items():
            shape = [sizes.get(axis, axis) for axis in tensor["shape"]]
            if tensor["dtype"] == "int64":
                made[name] = np.resize((np.arange(12) + 12 * index) % 32, shape)
            elif tensor["dtype"] == "bool":
                made[name] = rng.random(shape) < 0.9
            else:
                made[name] = rng.standard_normal(shape, dtype=np.float32)
        yield {name: value for name, value in made.items() if name not in without}


def listed(inputs, component, files):
    """What a source is told besides."""
    for index, (name, path) in enumerate(sorted(files.items())):
        yield f"{component} {name} {len(path.read_bytes())}", list(samples(inputs))[index]


class Reader:
    """As ONNX Runtime's own calibration readers."""

    def __init__(self, inputs, count=22):
        self.left = samples(inputs, count)

    def get_next(self):
        return next(self.left, None)


def raises(inputs):
    raise RuntimeError("the microphone is off")


def raises_later(inputs):
    yield from samples(inputs, 3)
    raise RuntimeError("the tape ran out")


def nothing(inputs):
    """A function whose author forgot to return."""


def number(inputs):
    return 3


def numbers(inputs):
    return [1, 2, 3]


def lists(inputs):
    return [{n: v.tolist() for n, v in s.items()} for s in samples(inputs, 3)]


def double(inputs):
    return [{n: v.astype(np.float64) for n, v in s.items()} for s in samples(inputs, 3)]


def unbatched(inputs):
    return [{n: v[0] for n, v in s.items()} for s in samples(inputs, 3)]


def renamed(inputs):
    return [{n.replace("gains", "gain"): v for n, v in s.items()} for s in samples(inputs, 3)]


def overflows(inputs):
    """Finite itself, and infinite inside the model."""
    return [{n: np.full_like(v, 3e38) for n, v in s.items()} for s in samples(inputs, 3)]
'''
CALIBRATORS = '''"""Calibrators of the project's own, all of them right for any model but for what their names say."""

import onnx


def fixed(model, tensors, component, inputs, bound=4.0):
    assert onnx.load(model).graph.node and inputs, component
    return {t: (0.0 if t.startswith("relu") else -bound, bound) for t in tensors}


def incomplete(tensors):
    return {t: (-1, 1) for t in tensors if t != "relu_1"}


def too_much(tensors):
    return {t: (-1, 1) for t in [*tensors, "relu_7"]}


def not_finite(tensors):
    return {t: (-1, float("nan")) for t in tensors}


def reversed(tensors):
    return {t: (1, -1) for t in tensors}


def single(tensors):
    return {t: 1.0 for t in tensors}


def nothing(tensors):
    pass


def beyond(tensors):
    """Finite, but not in float32."""
    return {t: (-1e39, 1e39) for t in tensors}


def raises(tensors):
    raise LookupError("no such table")
'''
NPZ = ("precision=int8", "calibration=npz", "calibration.files=data.npz")
#: for builds whose ranges are meant to be bad
LOOSE = (
    *("gate.component.snr_db.int8=-99", "gate.component.cosine.int8=-1", "gate.component.pooled_cosine.int8=-1"),
    *("gate.component.relative_l2.int8=99", "gate.end_to_end.snr_db.int8=-99"),
)
LINE = re.compile(r"→ (\S+/manifest\.json)$|^(\S+/manifest\.json)$", re.MULTILINE)


def write(project: Project, **sources: str) -> None:
    package = project.root / "src" / "tones"
    package.mkdir(exist_ok=True)
    for name, text in ({"__init__": ""} | sources).items():
        (package / f"{name}.py").write_text(text)


def calibration(project: Project, name: str, **node: Any) -> str:
    """A calibration of the project's own; the override that chooses it."""
    file = project.root / "conf" / "calibration" / f"{name}.yaml"
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps({"name": name, **node}))
    return f"calibration={name}"


def recorded(samples: int = 12, length: int = 7, **changes: Any) -> dict[str, np.ndarray]:
    """Stacked samples of both components; `embedder__ids=…` puts another array in the place of one, None drops it."""
    rng = np.random.default_rng(0)
    data = {
        "embedder/ids": np.arange(samples * length).reshape(samples, 1, length) % 32,
        "embedder/present": rng.random((samples, 1, length)) < 0.9,
        "mixer/features": rng.standard_normal((samples, 1, length, 8), dtype=np.float32),
        "mixer/gains": rng.standard_normal((samples, 1, 8), dtype=np.float32),
    }
    data |= {key.replace("__", "/"): value for key, value in changes.items()}
    return {key: value for key, value in data.items() if value is not None}


def save(project: Project, data: Mapping[str, np.ndarray], name: str = "data.npz") -> Path:
    path = project.root / name
    np.savez(path, **data)
    return path


def manifest(project: Project, out: str) -> dict[str, Any]:
    """What the build that printed `out` left."""
    places = [a or b for a, b in LINE.findall(out)]
    data: dict[str, Any] = json.loads((project.root / places[-1]).read_bytes())
    return data


def component(data: Mapping[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(c for c in data["components"] if c["name"] == name)
    return found


def folder(project: Project, data: Mapping[str, Any], step: str) -> Path:
    key = data["steps"][step]
    return project.store / "objects" / key[:2] / key


def samples_of(project: Project, data: Mapping[str, Any], step: str) -> Iterator[dict[str, np.ndarray]]:
    for path in sorted(folder(project, data, step).glob("*.npz")):
        with np.load(path, allow_pickle=False) as archive:
            yield dict(archive)


def ranges_of(project: Project, data: Mapping[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder(project, data, f"{name}.ranges") / "ranges.json").read_bytes())
    return found


def to_run(planned: Mapping[str, tuple[str, str]]) -> set[str]:
    return {step for step, (verb, _) in planned.items() if verb == "run"}


def again(name: str) -> set[str]:
    """What follows a component's ranges."""
    return {f"{name}.{step}" for step in ("lower", "build", "race", "verify")} | {"swaps", "end_to_end"}


def make_tones(project: Project) -> Project:
    """`project`, the toy one, with the package and the pipeline of that name, and data to calibrate on."""
    write(project, mixer=MODULE, sources=SOURCES, calibrators=CALIBRATORS)
    made = project.pipeline("tones", {"embedder": EMBEDDER, "mixer": MIXER}, INPUTS)
    save(made, recorded())
    return made


def copied_to(root: Path, project: Project, built: bool = True) -> Project:
    """A copy to do with as a test likes; its outputs only where they are wanted."""
    left_out = shutil.ignore_patterns("__pycache__", *([] if built else ["outputs"]))
    shutil.copytree(project.root, root, symlinks=True, copy_function=shutil.copy2, ignore=left_out)
    return replace(project, root=root)


def lowered_scale(project: Project, data: Mapping[str, Any], tensor: str) -> float:
    """The scale of a tensor in the mixer's lowered graph."""
    graph = onnx.load(folder(project, data, "mixer.lower") / "model.onnx").graph
    return float(next(t for t in graph.initializer if t.name == f"{tensor}_scale").float_data[0])
