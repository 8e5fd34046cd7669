"""INT8 as a user has it, through the command line: data in, ranges, integers out, and every mistake on the way.

The project is the toy one with the package `tones` written into it: an embedder of tokens (a matrix product, int64
and bool inputs) and a mixer (a matrix product, two convolutions), each with a `samples` step of its own.
"""

from __future__ import annotations

import json
import pickle
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest

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


# -- a project -----------------------------------------------------------------------------------


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


@pytest.fixture(scope="module")
def tones(toy_project: Project) -> Project:
    """The project, with nothing built. Only to copy, or to read from."""
    write(toy_project, mixer=MODULE, sources=SOURCES, calibrators=CALIBRATORS)
    project = toy_project.pipeline("tones", {"embedder": EMBEDDER, "mixer": MIXER}, INPUTS)
    save(project, recorded())
    return project


@pytest.fixture(scope="module")
def first(tones: Project) -> str:
    """What the first int8 build says."""
    return tones.ok(*NPZ)


@pytest.fixture
def built(tones: Project, first: str, tmp_path: Path) -> Project:
    """A copy of the project, built in int8."""
    root = tmp_path / "project"
    shutil.copytree(tones.root, root, symlinks=True, copy_function=shutil.copy2)
    return replace(tones, root=root)


# -- what a build says and leaves ---------------------------------------------------------------------


def test_the_table_tells_what_is_int8_and_what_it_was_calibrated_on(first: str) -> None:
    lines = first[first.index("\n component ") :].splitlines()[1:]
    assert lines[0].split() == ["component", "asked", "delivered", "file", "worst", "parity", "at", "latency", "time"]
    row = r" {} +int8 +int8 {} Conv/MatMul +\d+\.\d kB +\d+\.\d dB ≥ 20 +\w+ +\d+\.\d\d× fp32 +\d+\.\d s"
    assert re.fullmatch(row.format("embedder", "1/1"), lines[1])
    assert re.fullmatch(row.format("mixer", "3/3"), lines[2])
    assert re.fullmatch(r" end to end +\d+\.\d dB ≥ 15 +\w+ +\d+\.\d s", lines[3])
    assert re.search(r"^ calibrated on npz\b.*, 12 samples: length 7 … 7 of 2 … 12$", first, re.MULTILINE)
    swaps = r"^ end to end at opt, float32 but for: embedder \d+\.\d dB, \+ mixer \d+\.\d dB$"
    assert re.search(swaps, first, re.MULTILINE)


def test_the_manifest_records_calibration_nodes_and_race(tones: Project, first: str) -> None:
    data = manifest(tones, first)
    for name, count in (("embedder", 1), ("mixer", 3)):
        found = component(data, name)
        told, ranges = found["calibration"], folder(tones, data, f"{name}.ranges") / "ranges.json"
        assert told["name"] == "npz"
        assert told["samples"] == 12
        assert told["method"] == {"default": "minmax"}
        assert told["ranges"] == sha256(ranges.read_bytes()).hexdigest()
        exported = onnx.load(folder(tones, data, f"{name}.export") / "model.onnx").graph
        assert told["quantized"] == [n.name for n in exported.node if n.op_type in ("MatMul", "Conv", "Gemm")]
        assert len(told["quantized"]) == count
        assert found["precision"]["delivered"]["heavy"] == {"int8": count}
        assert found["precision"]["delivered"]["executed"] == {"int8": count}
        race = found["race"]
        assert race.keys() == {"point", "rounds", "ms", "ratio"}
        assert race["ms"].keys() == {"int8", "fp32"}
        assert race["ratio"] == pytest.approx(race["ms"]["int8"] / race["ms"]["fp32"], abs=1e-3)


def test_ranges_hold_what_the_float_graph_computes_of_the_samples(tones: Project, first: str) -> None:
    data = manifest(tones, first)
    model = folder(tones, data, "mixer.export") / "model.onnx"
    ranges = ranges_of(tones, data, "mixer")
    assert ranges["model"] == sha256(model.read_bytes()).hexdigest()
    assert ranges["samples"] == 12
    features = recorded()["mixer/features"]
    assert ranges["ranges"]["features"] == [float(features.min()), float(features.max())]
    graph = onnx.load(model)
    tensor = next(n.output[0] for n in graph.graph.node if n.op_type == "Conv")
    graph.graph.output.append(onnx.helper.make_tensor_value_info(tensor, onnx.TensorProto.FLOAT, None))
    session = ort.InferenceSession(graph.SerializeToString())
    seen = [session.run([tensor], feeds)[0] for feeds in samples_of(tones, data, "mixer.samples")]
    assert ranges["ranges"][tensor] == [float(min(s.min() for s in seen)), float(max(s.max() for s in seen))]


def test_the_published_folder_runs_without_the_project(tones: Project, first: str, tmp_path: Path) -> None:
    """All that a server gets."""
    place = tones.root / [b for _, b in LINE.findall(first)][-1]
    shutil.copytree(place.parent, tmp_path / "copied")
    out = tones.python(
        "import autovoice, numpy as np\n"
        f"with autovoice.Pipeline.load({str(tmp_path / 'copied')!r}) as p:\n"
        "    y = p.run({'tokens': np.ones((1, 5), np.int64), 'gains': np.zeros((1, 8), np.float32)})\n"
        "print(y['mixed'].shape, bool(np.isfinite(y['mixed']).all()))"
    )
    assert out == "(1, 8, 5) True\n"


# -- where samples come from ---------------------------------------------------------------------------


def test_one_entry_a_sample_with_lengths_of_their_own(built: Project) -> None:
    rng = np.random.default_rng(0)
    data: dict[str, np.ndarray] = {}
    for i in range(16):
        length = 2 + i % 11
        data[f"embedder/ids/{i:05d}"] = (np.arange(length)[None] + 2 * i) % 32
        data[f"embedder/present/{i:05d}"] = np.ones(length, bool)  # its own batch axis may be left out
        data[f"mixer/features/{i:05d}"] = rng.standard_normal((1 + i % 2, length, 8), dtype=np.float32)
        data[f"mixer/gains/{i:05d}"] = rng.standard_normal((1 + i % 2, 8), dtype=np.float32)
    save(built, data)
    out = built.ok(*NPZ)
    assert "16 samples: length 2 … 12 of 2 … 12\n" in out
    assert "16 samples: length 2 … 12 of 2 … 12, n 1 … 2 of 1 … 2\n" in out
    kept = list(samples_of(built, manifest(built, out), "embedder.samples"))
    assert [s["ids"].shape for s in kept] == [(1, 2 + i % 11) for i in range(16)]


def test_integers_and_masks_keep_their_types(tones: Project, first: str) -> None:
    given, kept = recorded(), list(samples_of(tones, manifest(tones, first), "embedder.samples"))
    assert {n: v.dtype for n, v in kept[0].items()} == {"ids": np.dtype(np.int64), "present": np.dtype(bool)}
    assert all((s["ids"] == i).all() for s, i in zip(kept, given["embedder/ids"], strict=True))
    assert all((s["present"] == p).all() for s, p in zip(kept, given["embedder/present"], strict=True))


def test_a_batch_axis_may_be_left_out_of_stacked_samples(built: Project, first: str) -> None:
    save(built, {key: value[:, 0] for key, value in recorded().items()})
    data = manifest(built, built.ok(*NPZ))
    old = manifest(built, first)
    assert ranges_of(built, data, "mixer") == ranges_of(built, old, "mixer")


def test_an_input_without_data_takes_its_default(built: Project) -> None:
    save(built, recorded(embedder__present=None))
    data = manifest(built, built.ok(*NPZ))
    for sample in samples_of(built, data, "embedder.samples"):
        assert sample["present"].dtype == bool
        assert sample["present"].shape == sample["ids"].shape
        assert sample["present"].all()


def test_a_folder_of_npy_files(built: Project, first: str) -> None:
    """Stacked for one component, one file a sample for the other, each in a folder of its name."""
    data = recorded()
    for name in ("embedder", "mixer"):
        (built.root / "npy" / name).mkdir(parents=True)
    for name in ("ids", "present"):
        np.save(built.root / "npy" / "embedder" / f"{name}.npy", data[f"embedder/{name}"])
    for name in ("features", "gains"):
        (built.root / "npy" / "mixer" / name).mkdir()
        for i, value in enumerate(data[f"mixer/{name}"]):
            np.save(built.root / "npy" / "mixer" / name / f"{i:05d}.npy", value)
    out = built.run("precision=int8", "calibration=npy", "calibration.files=npy")
    assert out.code == 0, out.err
    new, old = manifest(built, out.out), manifest(built, first)
    for name in ("embedder", "mixer"):
        assert ranges_of(built, new, name) == ranges_of(built, old, name)
        assert component(new, name)["calibration"]["name"] == "npy"


def test_a_folder_of_npy_files_of_one_component(built: Project, first: str) -> None:
    data = recorded()
    (built.root / "npy" / "gains").mkdir(parents=True)
    np.save(built.root / "npy" / "features.npy", data["mixer/features"])
    for i, value in enumerate(data["mixer/gains"]):
        np.save(built.root / "npy" / "gains" / f"{i:05d}.npy", value)
    chosen = calibration(built, "folder", files="npy", source={"_target_": "autovoice.calibration.sources.npy_folder"})
    new = manifest(built, built.ok(*NPZ, f"component.mixer.{chosen}"))
    assert ranges_of(built, new, "mixer") == ranges_of(built, manifest(built, first), "mixer")
    assert component(new, "mixer")["calibration"]["name"] == "folder"
    assert component(new, "embedder")["calibration"]["name"] == "npz"


@pytest.mark.parametrize("target", ["samples", "Reader"])
def test_a_source_of_the_users_own(built: Project, target: str) -> None:
    """A generator, and an object with get_next()."""
    chosen = calibration(built, "mine", source={"_target_": f"tones.sources.{target}", "count": 11})
    out = built.ok("precision=int8", chosen)
    assert "11 samples: length 2 … 12 of 2 … 12\n" in out
    data = manifest(built, out)
    assert [s["gains"].shape for s in samples_of(built, data, "mixer.samples")] == [(1, 8)] * 11
    assert {s["ids"].dtype for s in samples_of(built, data, "embedder.samples")} == {np.dtype(np.int64)}
    assert component(data, "mixer")["calibration"]["samples"] == 11
    built.edit("src/tones/sources.py", "default_rng(1)", "default_rng(2)")
    planned = built.plan("precision=int8", chosen)
    assert planned["mixer.samples"] == ("run", "code edited: tones.sources")


def test_a_source_is_told_its_component_and_files(built: Project) -> None:
    source = {"_target_": "tones.sources.listed"}
    calibration(built, "mine", source=source, files="src/tones/*.py")
    data = manifest(built, built.ok(*NPZ, "component.mixer.calibration=mine", *LOOSE))
    entries = json.loads((folder(built, data, "mixer.samples") / "samples.json").read_bytes())["samples"]
    files = sorted((built.root / "src" / "tones").glob("*.py"))
    assert [e["name"] for e in entries] == [f"mixer {p.name} {p.stat().st_size}" for p in files]


def test_at_level_pipeline_a_component_is_calibrated_on_what_upstream_computes(built: Project) -> None:
    chosen = calibration(built, "mine", level="pipeline", source={"_target_": "tones.sources.samples"})
    out = built.ok("precision=int8", chosen)
    assert " calibrated on mine, 22 samples: length 2 … 12 of 2 … 12\n" in out
    data = manifest(built, out)
    given = list(samples_of(built, data, "samples_mine"))
    assert given[0].keys() == {"tokens", "present", "gains"}
    session = ort.InferenceSession(folder(built, data, "embedder.export") / "model.onnx")
    seen = [session.run(None, {"ids": s["tokens"], "present": s["present"]})[0] for s in given]
    low, high = ranges_of(built, data, "mixer")["ranges"]["features"]
    assert low == pytest.approx(min(s.min() for s in seen), rel=1e-6)
    assert high == pytest.approx(max(s.max() for s in seen), rel=1e-6)
    assert "mixer.samples" not in data["steps"]
    built.edit("src/tones/mixer.py", "0.1 *", "0.2 *")
    planned = built.plan("precision=int8", chosen)
    assert planned["mixer.ranges"][0] == "run"
    assert planned["embedder.activations_mine"] == planned["samples_mine"] == ("reuse", "unchanged")
    built.edit("src/tones/mixer.py", "0.2 *", "0.1 *")
    built.edit("src/chime/embedder.py", "self.mix(self.table(ids))", "(2 * self.mix(self.table(ids)))")
    planned = built.plan("precision=int8", chosen)
    assert planned["mixer.observe"] == ("run", "needs activations_mine")
    assert planned["samples_mine"] == ("reuse", "unchanged")


def test_at_level_pipeline_a_default_holds(built: Project) -> None:
    source = {"_target_": "tones.sources.samples", "without": ["present"]}
    chosen = calibration(built, "mine", level="pipeline", source=source)
    data = manifest(built, built.ok("precision=int8", chosen))
    assert all(s["present"].all() and s["present"].dtype == bool for s in samples_of(built, data, "samples_mine"))


def test_calibrations_of_one_name_and_different_data(built: Project) -> None:
    """Each component's own, written where it stands: that the two are called the same means nothing."""
    own = [
        {"name": "own", "level": "pipeline", "source": {"_target_": "tones.sources.samples", "count": count}}
        for count in (11, 22)
    ]
    components = {"embedder": EMBEDDER | {"calibration": own[0]}, "mixer": MIXER | {"calibration": own[1]}}
    project = built.pipeline("tones", components, INPUTS)
    result = project.run("precision=int8")
    if result.code:  # to refuse it would do as well
        assert "'own'" in result.err
        return
    data = manifest(project, result.out)
    assert [component(data, name)["calibration"]["samples"] for name in components] == [11, 22]


def test_a_name_that_is_a_path(built: Project) -> None:
    """A calibration's name becomes part of a step's, and that of a log file's."""
    node = {"name": "../../takes", "level": "pipeline", "source": {"_target_": "tones.sources.samples", "count": 13}}
    components = {"embedder": EMBEDDER | {"calibration": node}, "mixer": MIXER | {"calibration": node}}
    result = built.pipeline("tones", components, INPUTS).run("precision=int8")
    assert result.code in (0, 1)
    assert [p for p in (built.store / "logs").iterdir() if p.is_dir()] == []


def test_recorded_inputs_of_the_pipeline(built: Project) -> None:
    """The npz that `task=run` takes, with a first axis more; there is no component to name at this level."""
    data = recorded()
    save(built, {"tokens": data["embedder/ids"], "gains": data["mixer/gains"]})
    out = built.ok(*NPZ, "calibration.level=pipeline")
    assert " calibrated on npz, 12 samples: length 7 … 7 of 2 … 12\n" in out


def test_synthetic_is_used_where_it_is_named(built: Project) -> None:
    out = built.ok("precision=int8", "calibration=synthetic", *LOOSE)
    assert " calibrated on synthetic, 8 samples: length 3 … 11 of 2 … 12, n 1 … 2 of 1 … 2\n" in out
    data = manifest(built, out)
    assert component(data, "mixer")["calibration"]["name"] == "synthetic"
    first_sample = next(samples_of(built, data, "samples_synthetic"))
    assert {n: v.dtype.name for n, v in first_sample.items()} == {
        **{"tokens": "int64", "present": "bool", "gains": "float32"}
    }


# -- mistakes --------------------------------------------------------------------------------------

FEATURES = recorded()["mixer/features"]
NOT_FINITE = FEATURES.copy()
NOT_FINITE[3, 0, 2, :2] = np.nan, np.inf
ONE = {key.replace("/", "__"): value[:1] for key, value in recorded().items() if key.startswith("mixer")}
NONE = {key: value[:0] for key, value in ONE.items()}
LONG = recorded(length=13)["mixer/features"]
STEP = "mixer.samples: calibration of mixer"
DATA: dict[str, tuple[dict[str, Any], str, str]] = {
    "no sample": (
        NONE,
        f"{STEP}: no sample at all, at least 2 are needed",
        "give more data (calibration.files), or say that it is enough: calibration.min_samples=1",
    ),
    "one sample": (
        ONE,
        f"{STEP}: 1 sample, at least 2 are needed",
        "give more data (calibration.files), or say that it is enough: calibration.min_samples=1",
    ),
    "not finite": (
        {"mixer__features": NOT_FINITE},
        f"{STEP}, sample mixer/features[3]: 'features' has 2 values that are not finite",
        "leave that sample out, or mend what made it",
    ),
    "missing input": (
        {"mixer__gains": None},
        f"{STEP}, sample mixer/features[0]: input 'gains' is missing",
        "given: features; inputs: features, gains",
    ),
    "extra input": (
        {"mixer__featurs": FEATURES},
        "mixer.samples: {file}: 'mixer/featurs' is no input of it",
        "did you mean 'features'? available: features, gains",
    ),
    "wire instead of input": (
        {"embedder__tokens": recorded()["embedder/ids"], "embedder__ids": None},
        "embedder.samples: {file}: 'embedder/tokens' is no input of it",
        "available: ids, present",
    ),
    "integer dtype": (
        {"embedder__ids": recorded()["embedder/ids"].astype(np.int32)},
        "embedder.samples: calibration of embedder, sample embedder/ids[0]: input 'ids' is int32, expected int64",
        "ids.astype(np.int64)",
    ),
    "float dtype": (
        {"mixer__features": FEATURES.astype(np.float64)},
        f"{STEP}, sample mixer/features[0]: input 'features' is float64, expected float32",
        "features.astype(np.float32)",
    ),
    "mask dtype": (
        {"embedder__present": recorded()["embedder/present"].astype(np.float32)},
        "embedder.samples: calibration of embedder, sample embedder/ids[0]: input 'present' is float32, expected bool",
        "present.astype(np.bool)",
    ),
    "rank": (
        {"mixer__features": FEATURES[None]},
        "mixer.samples: {file}: 'mixer/features' has shape [1, 12, 1, 7, 8]",
        "one sample has 3 axes, and a first one counts samples; the batch axis may be left out",
    ),
    "fixed size": (
        {"mixer__gains": np.zeros((12, 1, 7), np.float32)},
        f"{STEP}, sample mixer/features[0]: input 'gains' axis 1 is 7, expected 8",
        "shape [n, 8]",
    ),
    "no values": (
        {"mixer__features": FEATURES[:, :, :0]},
        f"{STEP}, sample mixer/features[0]: 'features' is empty",
        "shape [1, 0, 8]",
    ),
    "sizes that disagree": (
        {"embedder__present": np.ones((12, 1, 5), bool)},
        "embedder.samples: calibration of embedder, sample embedder/ids[0]: "
        "input 'present' axis 1 (length) is 5, but input 'ids' has 7",
        "inputs that share 'length' must agree",
    ),
    "counts that disagree": (
        {"mixer__gains": np.zeros((5, 1, 8), np.float32)},
        "mixer.samples: inputs have different numbers of samples",
        "features 12, gains 5",
    ),
    "above the profile": (
        {"mixer__features": LONG},
        "mixer.coverage: calibration of mixer, sample mixer/features[0]: length is 13, the profile 2 … 12",
        "leave it out, or cut it, or dims.length.max=13",
    ),
    "below the profile": (
        {"mixer__features": FEATURES[:, :, :1]},
        "mixer.coverage: calibration of mixer, sample mixer/features[0]: length is 1, the profile 2 … 12",
        "leave it out, or cut it, or dims.length.min=1",
    ),
    "no data of a component": (
        {"mixer__features": None, "mixer__gains": None, "mixr__features": FEATURES},
        "mixer.samples: {file}: has no samples of 'mixer'",
        "did you mean 'mixr'? available: embedder, mixr",
    ),
    "objects": (
        {"mixer__gains": np.array([{}] * 12, object)},
        "mixer.samples: {file}: 'mixer/gains' holds pickled objects, which are refused",
        "write it again: np.savez(path, **{'component/input': array}); pickled objects are refused",
    ),
}


@pytest.mark.parametrize("name", DATA)
def test_data_that_do_not_fit_are_named(built: Project, name: str) -> None:
    changes, fact, fix = DATA[name]
    path = save(built, recorded(**changes))
    err = built.fails(*NPZ)
    assert err.startswith(f"error: {fact.format(file=path)}\n  {fix}\n")


def test_data_of_a_component_that_does_not_exist(built: Project) -> None:
    """Misspelt, and what it was meant for has a default: nothing else would tell."""
    save(built, recorded(embedder__present=None, embeder__present=np.zeros((12, 1, 7), bool)))
    err = built.fails(*NPZ)
    assert "embeder" in err
    assert "call it 'embedder/present', or give both" in err


def test_a_sample_outside_the_profile_is_taken_once_the_profile_is_wider(built: Project) -> None:
    save(built, recorded(mixer__features=LONG))
    out = built.ok(*NPZ, "dims.length.max=13")
    assert "12 samples: length 13 … 13 of 2 … 13\n" in out


def test_few_samples_are_enough_where_that_is_said(built: Project) -> None:
    save(built, recorded(**ONE))
    assert re.search(
        r"calibrated on .*\b1 samples?: length 7 … 7 ", built.ok(*NPZ, "calibration.min_samples=1", *LOOSE)
    )


def test_nothing_pickled_is_executed(built: Project) -> None:
    mark = built.root / "executed"
    (built.root / "data.npz").write_bytes(pickle.dumps(Intruder(mark)))
    err = built.fails(*NPZ)
    assert "data.npz: is no npz, an archive of arrays by name\n" in err
    save(built, recorded(mixer__gains=np.array([Intruder(mark)] * 12, object)))
    assert "'mixer/gains' holds pickled objects, which are refused\n" in built.fails(*NPZ)
    assert not mark.exists()
    pickle.loads(pickle.dumps(Intruder(mark)))
    assert mark.exists()  # it would have, had anyone loaded it


class Intruder:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (self.mark,)  # type: ignore[return-value]


@pytest.mark.parametrize("damage", ["text", "empty", "truncated", "flipped", "one array"])
def test_a_file_that_is_no_npz(built: Project, damage: str) -> None:
    path = built.root / "data.npz"
    content = bytearray(path.read_bytes())
    if damage == "flipped":
        content[len(content) // 2] ^= 1
    path.write_bytes({"text": b"tokens", "empty": b"", "truncated": content[:-600]}.get(damage, content))
    if damage == "one array":
        with open(path, "wb") as file:
            np.save(file, FEATURES)
    err = built.fails(*NPZ)
    assert err.startswith(("error: mixer.samples: ", "error: embedder.samples: "))
    assert f"{path}: " in err.splitlines()[0]
    assert "not an error this tool expects" not in err
    assert "unsafely" not in err


SOURCE = "mixer.samples: calibration.source: tones.sources"
MINE: dict[str, tuple[dict[str, Any], str, str]] = {
    "raises": (
        {"_target_": "tones.sources.raises"},
        f"{SOURCE}.raises raised RuntimeError: the microphone is off",
        "the whole of it is in the step's log",
    ),
    "raises later": (
        {"_target_": "tones.sources.raises_later"},
        "mixer.samples: calibration of mixer: the source raised RuntimeError: the tape ran out",
        "the whole of it is in the step's log",
    ),
    "number": ({"_target_": "tones.sources.number"}, "mixer.samples: calibration", ""),
    "nothing": ({"_target_": "tones.sources.nothing"}, "mixer.samples: calibration", ""),
    "numbers": (
        {"_target_": "tones.sources.numbers"},
        f"{STEP}, sample 0: is a int",
        "a source yields {input: array}, or (name, {input: array})",
    ),
    "lists": (
        {"_target_": "tones.sources.lists"},
        f"{STEP}, sample 0: input 'features' is a list",
        "give a numpy array",
    ),
    "double": (
        {"_target_": "tones.sources.double"},
        f"{STEP}, sample 0: input 'features' is float64, expected float32",
        "features.astype(np.float32)",
    ),
    "unbatched": (
        {"_target_": "tones.sources.unbatched"},
        f"{STEP}, sample 0: input 'features' has shape [2, 8], expected [n, length, 8]",
        "3 axes, got 2",
    ),
    "renamed": (
        {"_target_": "tones.sources.renamed"},
        f"{STEP}, sample 0: there is no input 'gain'",
        "did you mean 'gains'? available: features, gains",
    ),
    "overflows": (
        {"_target_": "tones.sources.overflows"},
        "mixer.observe: sample 00000.npz: '",
        "padding that is masked by -inf does this: give samples unpadded, one at a time",
    ),
    "missing": (
        {"_target_": "tones.sources.samples", "without": ["gains"]},
        f"{STEP}, sample 0: input 'gains' is missing",
        "given: features; inputs: features, gains",
    ),
    "no data": (
        {"_target_": "tones.sources.samples", "count": 0},
        f"{STEP}: no sample at all, at least 2 are needed",
        "give more data (calibration.files), or say that it is enough: calibration.min_samples=1",
    ),
    "wrong keyword": (
        {"_target_": "tones.sources.samples", "cuont": 3},
        f"{SOURCE}.samples: got an unexpected keyword argument 'cuont'",
        "its arguments: inputs, count, without",
    ),
    "no function": (
        {"_target_": "tones.sources.sampels"},
        "mixer.samples: calibration.source: tones.sources has no 'sampels'",
        "did you mean 'samples'? available: ",
    ),
    "no module": (
        {"_target_": "tones.source.samples"},
        "component.mixer: _target_ 'tones.source.samples': there is no module 'tones.source'",
        "install its package in this environment, or put its folder on PYTHONPATH",
    ),
    "module that does not import": (
        {"_target_": "tones.absent.samples"},
        "mixer.samples: calibration.source: ",
        "",
    ),
    "no path": (
        {"_target_": "samples"},
        "calibration.source._target_: 'samples' is not a dotted path",
        "package.module.Class",
    ),
}


@pytest.mark.parametrize("name", MINE)
def test_a_source_that_is_wrong(built: Project, name: str) -> None:
    source, fact, fix = MINE[name]
    write(built, absent="import absent_library\n")
    calibration(built, "mine", source=source)
    err = built.fails("precision=int8", "calibration=mine", f"component.embedder.{whole(built)}")
    first_line, second = err.splitlines()[:2]
    assert first_line.startswith(f"error: {fact}")
    assert second.startswith(f"  {fix}")
    assert "not an error this tool expects" not in err


CONFIGURATION: dict[str, tuple[list[str], str, str]] = {
    "no calibration": (
        ["precision=int8", "calibration=none"],
        "component.embedder.calibration, component.mixer.calibration: int8 needs calibration data, 'none' has none",
        "calibration=npz calibration.files=data.npz, or leave it out: component.<name>.quantize.op_types=[]",
    ),
    "no files": (
        ["precision=int8", "calibration=npz"],
        "calibration.files: is required",
        "set it: calibration.files=…",
    ),
    "source and calibrator": (
        [*NPZ, "calibration.calibrator={_target_: tones.calibrators.fixed}"],
        "component.embedder.calibration, component.mixer.calibration: 'npz' has source and calibrator",
        "one of them alone: calibration.source=null, or calibration.calibrator=null",
    ),
    "source and ranges": (
        [*NPZ, "calibration.ranges=data.npz"],
        "component.embedder.calibration, component.mixer.calibration: 'npz' has source and ranges",
        "one of them alone: calibration.source=null, or calibration.ranges=null",
    ),
    "pattern": (
        [*NPZ[:2], "calibration.files=takes/*.npz"],
        "calibration.files: there is no file 'takes/*.npz'",
        "calibration.files=/path/to/file, a folder or a pattern",
    ),
    "file": (
        [*NPZ[:2], "calibration.files=daat.npz"],
        "calibration.files: there is no file 'daat.npz'",
        "calibration.files=/path/to/file, a folder or a pattern",
    ),
    "precision": (
        ["precision=int9", *NPZ[1:]],
        "precision=int9: no such option in group 'precision' (asked for by config)",
        "did you mean 'int8'? available: ",
    ),
    "calibration": (
        ["precision=int8", "calibration=npzz"],
        "calibration=npzz: no such option in group 'calibration' (asked for by config)",
        "did you mean 'npz'? available: ",
    ),
    "calibration of a component": (
        [*NPZ, "component.mixer.calibration=synthetik"],
        "component.mixer.calibration: unknown calibration 'synthetik'",
        "did you mean 'synthetic'? available: ",
    ),
    "method": (
        [*NPZ, "calibration.method=entrpy"],
        "calibration.method: unknown method 'entrpy'",
        "did you mean 'entropy'? available: entropy, minmax, mse, percentile",
    ),
    "level": (
        [*NPZ, "calibration.level=pipelines"],
        "calibration.level: unknown level 'pipelines'",
        "component, or pipeline",
    ),
    "key": (
        [*NPZ, "calibration.fils=data.npz"],
        "calibration.fils: no key 'fils' in calibration",
        "did you mean 'files'? available: ",
    ),
    "policy key": (
        [*NPZ, "+component.mixer.quantize.excludes=[tail.*]"],
        "component.mixer.quantize.excludes: unknown key 'excludes'",
        "did you mean 'exclude'? available: exclude, first, include, last, op_types",
    ),
    "shards": (
        [*NPZ, "calibration.shards=0"],
        "calibration.shards: must be at least 1, got 0",
        "",
    ),
    "percentile": (
        [*NPZ, "calibration.percentile=0.9999"],
        "calibration.percentile: 0.9999 is out of range",
        "above 50, at most 100, as 99.99",
    ),
}


@pytest.mark.parametrize("name", CONFIGURATION)
def test_a_configuration_that_is_wrong_writes_nothing(built: Project, name: str) -> None:
    overrides, fact, fix = CONFIGURATION[name]
    before = built.files()
    err = built.fails(*overrides)
    assert err.startswith(f"error: {fact}\n" + (f"  {fix}" if fix else ""))
    assert built.files() == before


POLICY: dict[str, tuple[list[str], str, str]] = {
    "include": (
        ["+component.mixer.quantize.include=[bdoy.weight]"],
        "mixer.lower: quantize.include: 'bdoy.weight' matches no node and no weight",
        "did you mean 'body.weight'? available: ",
    ),
    "exclude": (
        ["+component.mixer.quantize.exclude=[resblocks.*]"],
        "mixer.lower: quantize.exclude: 'resblocks.*' matches no node and no weight",
        "available: body.bias, body.weight, head.weight, ",
    ),
    "nothing left": (
        ["+component.mixer.quantize.exclude=['*']"],
        "mixer.lower: the policy chooses none of 3 nodes to quantize",
        "it has Conv, MatMul; ++component.mixer.quantize.op_types=[] leaves it as it is, on purpose",
    ),
    "nothing left but ends": (
        ["+component.embedder.quantize.first=false"],
        "embedder.lower: the policy chooses none of 1 nodes to quantize",
        "it has MatMul; ++component.embedder.quantize.op_types=[] leaves it as it is, on purpose",
    ),
}


@pytest.mark.parametrize("name", POLICY)
def test_a_policy_that_means_nothing(built: Project, name: str) -> None:
    overrides, fact, fix = POLICY[name]
    assert built.fails(*NPZ, *overrides).startswith(f"error: {fact}\n  {fix}")


def test_a_component_that_the_policy_leaves_out_needs_no_data(built: Project) -> None:
    save(built, recorded(embedder__ids=None, embedder__present=None))
    out = built.ok(*NPZ, "+component.embedder.quantize.op_types=[]")
    assert re.search(r"\n embedder +int8 +fp32 \d+/\d+ nodes, by policy ", out)
    data = manifest(built, out)
    assert component(data, "embedder")["calibration"] is None
    assert component(data, "embedder")["race"] is None
    assert "embedder.samples" not in data["steps"]


def test_a_pattern_of_methods_that_matches_no_tensor(built: Project) -> None:
    methods = {"featurs": "entropy"}
    calibration(built, "mine", source={"_target_": "tones.sources.samples"}, method=methods)
    err = built.fails("precision=int8", "calibration=mine", f"component.embedder.{whole(built)}")
    fix = "did you mean 'features'? available: "
    assert err.startswith(f"error: methods_mine: calibration.method: 'featurs' matches no tensor\n  {fix}")


def test_a_pattern_of_methods_that_only_one_component_has(built: Project) -> None:
    """`calibration.method` is for all components: a pattern is a mistake where none of them has such a tensor."""
    data = manifest(built, built.ok(*NPZ, "calibration.method={relu*: entropy}"))
    assert ranges_of(built, data, "mixer")["method"] == {"default": "minmax", "relu*": "entropy"}


def whole(project: Project) -> str:
    """The override of a calibration that is right for every component."""
    return calibration(project, "right", source={"_target_": "tones.sources.samples"})


# -- keys ----------------------------------------------------------------------------------------------


def test_a_second_run_has_nothing_to_do(built: Project) -> None:
    before = built.files()
    assert re.match(r"tones on onnxruntime, int8: nothing to do, 27 steps reused → ", built.ok(*NPZ))
    assert built.files() == before


def test_one_changed_value_calibrates_again(built: Project) -> None:
    features = FEATURES.copy()
    features[5, 0, 0, 0] = 9
    save(built, recorded(mixer__features=features))
    planned = built.plan(*NPZ)
    assert planned["mixer.samples"] == ("run", "content of data data.npz changed")
    assert planned["mixer.ranges"] == ("run", "needs observe")
    assert to_run(planned) >= again("mixer") | {"mixer.samples", "mixer.coverage", "mixer.observe", "mixer.ranges"}
    reused = {f"mixer.{s}" for s in ("export", "reference", "lower_fp32", "build_fp32")} | {"inputs"}
    assert not to_run(planned) & reused
    data = manifest(built, built.ok(*NPZ))
    assert ranges_of(built, data, "mixer")["ranges"]["features"][1] == 9
    save(built, recorded())
    assert built.plan(*NPZ)["mixer.samples"] == ("reuse", "unchanged")


def test_the_same_data_in_another_file_are_the_same_data(built: Project) -> None:
    """The name of the file is not what was calibrated on."""
    (built.root / "moved").mkdir()
    shutil.move(built.root / "data.npz", built.root / "moved" / "data.npz")
    planned = built.plan(*NPZ[:2], "calibration.files=moved/data.npz")
    assert to_run(planned) == set()


def test_a_wider_profile_neither_samples_nor_calibrates_again(built: Project) -> None:
    planned = built.plan(*NPZ, "dims.length.max=20")
    assert planned["mixer.coverage"] == ("run", "dims.length.max 12 → 20")
    calibrated = {f"{c}.{s}" for c in ("embedder", "mixer") for s in ("samples", "observe", "ranges", "lower", "build")}
    assert not to_run(planned) & calibrated


def test_an_edited_model_gets_new_ranges_and_no_other_does(given: Project) -> None:
    given.edit("src/tones/mixer.py", "torch.relu(self.body(x))", "torch.relu(2 * self.body(x))")
    planned = given.plan(*NPZ)
    assert planned["mixer.export"] == ("run", "code edited: tones.mixer")
    assert {"mixer.observe", "mixer.ranges"} | again("mixer") <= to_run(planned)
    assert "mixer.samples" not in to_run(planned)
    assert not {s for s in to_run(planned) if s.startswith("embedder")}
    before = given.runs()
    given.ok(*NPZ)
    assert not {s for s in given.runs() - before if s.startswith("embedder")}
    assert re.match(r"error: mixer\.ranges: \S+: was made for another graph \(", given.fails(*GIVEN))


def test_another_policy_neither_observes_nor_computes_ranges_again(built: Project) -> None:
    override = "+component.mixer.quantize.exclude=[tail.*]"
    planned = built.plan(*NPZ, override)
    assert to_run(planned) == again("mixer")
    assert planned["mixer.lower"] == ("run", "quantize.exclude [] → ['tail.*']")
    before = built.runs()
    out = built.ok(*NPZ, override)
    assert set(built.runs() - before) == again("mixer")
    assert re.search(r"\n mixer +int8 +int8 2/3 Conv/MatMul ", out)


def test_another_method_observes_again_and_another_percentile_does_not(built: Project) -> None:
    planned = built.plan(*NPZ, "calibration.method=percentile")
    assert planned["mixer.observe"] == ("run", "histograms.default False → True")
    assert planned["mixer.samples"] == ("reuse", "unchanged")
    out = built.ok(*NPZ, "calibration.method=percentile", *LOOSE)
    wide = ranges_of(built, manifest(built, out), "mixer")
    assert wide["method"] == {"percentile": 99.99, "default": "percentile"}
    narrower = ("calibration.method=percentile", "calibration.percentile=90", *LOOSE)
    planned = built.plan(*NPZ, *narrower)
    assert planned["mixer.observe"] == planned["mixer.samples"] == ("reuse", "unchanged")
    assert planned["mixer.ranges"] == ("run", "percentile 99.99 → 90.0")
    narrow = ranges_of(built, manifest(built, built.ok(*NPZ, *narrower)), "mixer")
    for tensor, (low, high) in narrow["ranges"].items():
        assert wide["ranges"][tensor][0] <= low <= high <= wide["ranges"][tensor][1]
    assert narrow["ranges"] != wide["ranges"]
    planned = built.plan(*NPZ, "calibration.method=mse", *LOOSE)
    assert planned["mixer.observe"] == ("reuse", "unchanged")
    assert planned["mixer.ranges"][0] == "run"


def test_a_sweep_exports_and_calibrates_once(tones: Project, tmp_path: Path) -> None:
    root = tmp_path / "project"
    shutil.copytree(tones.root, root, ignore=shutil.ignore_patterns("outputs", "__pycache__"))
    project = replace(tones, root=root)
    out = project.ok("-m", "precision=fp32,fp16,int8", *NPZ[1:])
    runs = project.runs()
    once = [f"{c}.{s}" for c in ("embedder", "mixer") for s in ("export", "samples", "observe", "ranges", "reference")]
    assert {step: runs[step] for step in once} == dict.fromkeys(once, 1)
    assert runs["mixer.lower"] == 3
    assert runs["mixer.lower_fp32"] == 0  # the fp32 build of the sweep is what int8 is timed against
    assert project.exports() == Counter({"Embedder": 1, "Mixer": 1})
    assert [line.split(",")[1].split(":")[0].strip() for line in re.findall(r"tones on .*", out)] == [
        *("fp32", "fp16", "int8")
    ]


@pytest.mark.parametrize(("method", "shards"), [("minmax", 3), ("entropy", 13)])
def test_shards_change_no_byte(built: Project, method: str, shards: int) -> None:
    """Nor do more shards than there are samples."""
    arguments = (*NPZ, f"calibration.method={method}", *LOOSE)
    one = manifest(built, built.ok(*arguments))
    several = manifest(built, built.ok(*arguments, f"calibration.shards={shards}"))
    assert {s for s in several["steps"] if ".observe" in s} == {
        f"{c}.observe_{i + 1}of{shards}" for c in ("embedder", "mixer") for i in range(shards)
    }
    for step, file in (("ranges", "ranges.json"), ("lower", "model.onnx"), ("build", "engine.onnx")):
        for name in ("embedder", "mixer"):
            paths = [folder(built, data, f"{name}.{step}") / file for data in (one, several)]
            assert paths[0].parent != paths[1].parent
            assert paths[0].read_bytes() == paths[1].read_bytes()


def test_a_removed_artefact_is_made_again_to_the_byte(built: Project, first: str) -> None:
    data = manifest(built, first)
    gone = {s: folder(built, data, f"mixer.{s}") for s in ("observe", "ranges", "lower", "build")}
    names = {"observe": "observed.npz", "ranges": "ranges.json", "lower": "model.onnx", "build": "engine.onnx"}
    before = {s: (gone[s] / names[s]).read_bytes() for s in names}
    for path in gone.values():
        shutil.rmtree(path)
    assert re.search(r" mixer +observe, ranges, lower, build +run +its artefact is gone", built.ok(*NPZ))
    assert {s: (gone[s] / names[s]).read_bytes() for s in names} == before
    assert "nothing to do" in built.ok(*NPZ)


# -- ranges of the user's own --------------------------------------------------------------------------


@pytest.fixture
def given(built: Project, first: str) -> Project:
    """The built project with its ranges in `ranges/<component>.json`."""
    (built.root / "ranges").mkdir()
    for name in ("embedder", "mixer"):
        source = folder(built, manifest(built, first), f"{name}.ranges") / "ranges.json"
        (built.root / "ranges" / f"{name}.json").write_bytes(source.read_bytes())
    return built


GIVEN = ("precision=int8", "calibration=none", "calibration.ranges=ranges")


def edited(project: Project, change: Callable[[dict[str, Any]], Any]) -> Path:
    path = project.root / "ranges" / "mixer.json"
    data = json.loads(path.read_bytes())
    change(data)
    path.write_text(json.dumps(data))
    return path


def test_a_folder_of_ranges_is_used_and_only_read(given: Project, first: str) -> None:
    path = edited(given, lambda data: data["ranges"].update(features=[-8, 8]))
    files = [path, path.with_name("embedder.json")]
    before = [(p.read_bytes(), p.stat().st_mtime_ns, p.stat().st_ino) for p in files]
    out = given.ok(*GIVEN)
    assert [(p.read_bytes(), p.stat().st_mtime_ns, p.stat().st_ino) for p in files] == before
    data = manifest(given, out)
    assert ranges_of(given, data, "mixer")["ranges"]["features"] == [-8, 8]
    assert {t.name: t for t in lowered_scales(given, data)}["features_scale"].float_data[0] == pytest.approx(16 / 255)
    assert component(data, "mixer")["calibration"]["samples"] is None
    assert not {s for s in data["steps"] if "samples" in s or "observe" in s}
    built_before = component(manifest(given, first), "embedder")
    assert component(data, "embedder")["sha256"] == built_before["sha256"]


def lowered_scales(project: Project, data: Mapping[str, Any]) -> list[onnx.TensorProto]:
    graph = onnx.load(folder(project, data, "mixer.lower") / "model.onnx").graph
    return list(graph.initializer)


def test_a_file_of_ranges_for_one_component(given: Project) -> None:
    calibration(given, "given", ranges="ranges/mixer.json")
    data = manifest(given, given.ok(*NPZ, "component.mixer.calibration=given"))
    assert component(data, "mixer")["calibration"]["name"] == "given"
    edited(given, lambda data: data["ranges"].update(features=[-8, 8]))
    planned = given.plan(*NPZ, "component.mixer.calibration=given")
    assert planned["mixer.ranges"] == ("run", "content of calibration.ranges changed")
    assert to_run(planned) == {"mixer.ranges"} | again("mixer")


WRONG_RANGES: dict[str, tuple[Callable[[dict[str, Any]], Any], str, str]] = {
    "another model": (
        lambda data: data.update(model="0" * 64),
        "was made for another graph (000000000000…, this one is ",
        'calibrate again, or, if its ranges are right all the same, remove the line "model" from it',
    ),
    "missing": (
        lambda data: data["ranges"].pop("relu_1"),
        "has no range for 'relu_1'",
        "available: ",
    ),
    "unknown": (
        lambda data: data["ranges"].update(relu_2=[0, 1]),
        "'relu_2' is no tensor of this model",
        "the ranges belong to another model; did you mean 'relu_1'? available: ",
    ),
    "nan": (
        lambda data: data["ranges"].update(relu_1=[0, float("nan")]),
        "the range of 'relu_1' is [0.0, nan]",
        "finite, low ≤ high",
    ),
    "infinite": (
        lambda data: data["ranges"].update(relu_1=[0, float("inf")]),
        "the range of 'relu_1' is [0.0, inf]",
        "finite, low ≤ high",
    ),
    "beyond float32": (
        lambda data: data["ranges"].update(relu_1=[0, 1e39]),
        "the range of 'relu_1' is [0.0, 1e+39]",
        "finite, low ≤ high",
    ),
    "reversed": (
        lambda data: data["ranges"].update(relu_1=[1, 0]),
        "the range of 'relu_1' is [1.0, 0.0]",
        "finite, low ≤ high",
    ),
    "one number": (
        lambda data: data["ranges"].update(relu_1=3),
        "the range of 'relu_1' is 3",
        "two numbers, [low, high]",
    ),
    "words": (
        lambda data: data["ranges"].update(relu_1="12"),
        "the range of 'relu_1' is '12'",
        "two numbers, [low, high]",
    ),
    "no ranges": (
        lambda data: data.pop("ranges"),
        "holds no ranges",
        '{"ranges": {"tensor": [low, high]}}',
    ),
}


@pytest.mark.parametrize("name", WRONG_RANGES)
def test_ranges_that_are_not_the_models(given: Project, name: str) -> None:
    change, fact, fix = WRONG_RANGES[name]
    path = edited(given, change)
    content = path.read_bytes()
    err = given.fails(*GIVEN)
    assert re.match(r"error: mixer\.ranges: \S*ranges/mixer\.json: ", err), err
    first_line, second = err.splitlines()[:2]
    assert first_line.split("mixer.json: ")[1].startswith(fact)
    assert second.startswith(f"  {fix}")
    assert path.read_bytes() == content


def test_ranges_without_a_model_line_are_taken(given: Project) -> None:
    edited(given, lambda data: data.pop("model"))
    assert re.search(r"\n mixer +int8 +int8 3/3 Conv/MatMul ", given.ok(*GIVEN))


def test_ranges_that_are_not_there(given: Project) -> None:
    (given.root / "ranges" / "mixer.json").unlink()
    err = given.fails(*GIVEN)
    assert "ranges/mixer.json: No such file or directory\n" in err
    assert "calibration.ranges=" in err


def test_ranges_that_are_no_json(given: Project) -> None:
    (given.root / "ranges" / "mixer.json").write_text("relu: 0 to 1")
    assert re.match(r"error: mixer\.ranges: \S+/mixer\.json: cannot be read as ranges\n  ", given.fails(*GIVEN))


# -- a calibrator of the user's own ----------------------------------------------------------------------


def test_a_calibrator_gives_the_ranges(built: Project) -> None:
    chosen = calibration(built, "mine", calibrator={"_target_": "tones.calibrators.fixed", "bound": 6})
    data = manifest(built, built.ok("precision=int8", chosen, *LOOSE))
    found = ranges_of(built, data, "mixer")
    assert found["ranges"]["features"] == [-6, 6]
    assert found["ranges"]["relu_1"] == [0, 6]
    assert found["method"] == "tones.calibrators.fixed"
    assert component(data, "mixer")["calibration"]["name"] == "mine"
    assert {t.name: t for t in lowered_scales(built, data)}["features_scale"].float_data[0] == pytest.approx(12 / 255)
    built.edit("src/tones/calibrators.py", "bound=4.0", "bound=5.0")
    assert built.plan("precision=int8", chosen)["mixer.ranges"] == ("run", "code edited: tones.calibrators")


WRONG_CALIBRATORS = {
    "incomplete": ("has no range for 'relu_1'", "available: "),
    "too_much": (
        "'relu_7' is no tensor of this model",
        "the ranges belong to another model; did you mean 'relu_1'?",
    ),
    "not_finite": ("the range of 'conv1d' is [-1.0, nan]", "finite, low ≤ high"),
    "reversed": ("the range of 'conv1d' is [1.0, -1.0]", "finite, low ≤ high"),
    "single": ("the range of 'conv1d' is 1.0", "two numbers, [low, high]"),
    "nothing": ("holds no ranges", '{"ranges": {"tensor": [low, high]}}'),
    "beyond": ("the range of 'conv1d' is [-1e+39, 1e+39]", "finite, low ≤ high"),
}


@pytest.mark.parametrize("name", WRONG_CALIBRATORS)
def test_a_calibrator_that_returns_something_else(built: Project, name: str) -> None:
    fact, fix = WRONG_CALIBRATORS[name]
    calibration(built, "mine", calibrator={"_target_": f"tones.calibrators.{name}"})
    err = built.fails(*NPZ, *mixer_by("mine"))
    assert err.startswith(f"error: mixer.ranges: calibrator tones.calibrators.{name}: {fact}\n  {fix}")


def mixer_by(name: str) -> list[str]:
    return [f"component.mixer.calibration={name}"]


def test_a_calibrator_that_raises(built: Project) -> None:
    calibration(built, "mine", calibrator={"_target_": "tones.calibrators.raises"})
    err = built.fails(*NPZ, *mixer_by("mine"))
    fact = "mixer.ranges: calibration.calibrator: tones.calibrators.raises raised LookupError: no such table"
    assert err.startswith(f"error: {fact}\n  the whole of it is in the step's log\n")


def test_a_calibrator_that_does_not_exist(built: Project) -> None:
    calibration(built, "mine", calibrator={"_target_": "tones.calibrators.fixd"})
    err = built.fails(*NPZ, *mixer_by("mine"))
    fact = "mixer.ranges: calibration.calibrator: tones.calibrators has no 'fixd'"
    assert err.startswith(f"error: {fact}\n  did you mean 'fixed'? available: ")


# -- is it worth it -----------------------------------------------------------------------------------

UNEVEN = '''from torch import nn


def grouped():
    """Four channels a group: ONNX Runtime has no fast integer kernel for it."""
    return nn.Conv1d(32, 32, 3, padding=1, groups=8)


def dense():
    """A few rows times a large matrix: as fast as its bytes can be read."""
    return nn.Sequential(nn.Linear(1024, 1024), nn.Linear(1024, 1024))
'''


@pytest.fixture(scope="module")
def uneven(tones: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Two components side by side: `grouped` is several times slower in int8 here, `dense` faster."""
    root = tmp_path_factory.mktemp("uneven") / "project"
    shutil.copytree(tones.root, root, ignore=shutil.ignore_patterns("outputs", "__pycache__"))
    project = replace(tones, root=root)
    write(project, uneven=UNEVEN)
    wave, rows = ["n", 32, "512*length"], ["n", "length", 1024]
    components = {
        "grouped": {
            "model": {"_target_": "tones.uneven.grouped"},
            "inputs": {"input": "wave"},
            "outputs": {"filtered": {"dtype": "float32", "shape": wave}},
        },
        "dense": {
            "model": {"_target_": "tones.uneven.dense"},
            "inputs": {"input": "rows"},
            "outputs": {"mapped": {"dtype": "float32", "shape": rows}},
        },
    }
    inputs = {"wave": {"dtype": "float32", "shape": wave}, "rows": {"dtype": "float32", "shape": rows}}
    return project.pipeline("uneven", components, inputs)


SYNTHETIC = ("precision=int8", "calibration=synthetic")
NOTE = " note: {} is slower in int8 than in fp32; only_if_faster=true keeps fp32 there\n"


def test_a_build_that_does_not_pay_is_told_and_kept(uneven: Project) -> None:
    out = uneven.ok(*SYNTHETIC)
    data = manifest(uneven, out)
    ratios = {c["name"]: c["race"]["ratio"] for c in data["components"]}
    assert ratios["grouped"] > 1
    assert all((NOTE.format(name) in out) == (ratio >= 1) for name, ratio in ratios.items())
    assert re.search(rf"\n grouped +int8 +int8 1/1 Conv/MatMul .* {ratios['grouped']:.2f}× fp32 ", out)
    assert "chosen" not in component(data, "grouped")["race"]
    assert component(data, "grouped")["precision"]["delivered"]["heavy"] == {"int8": 1}


def test_only_if_faster_publishes_the_faster_engine(uneven: Project) -> None:
    before = manifest(uneven, uneven.ok(*SYNTHETIC))
    out = uneven.ok(*SYNTHETIC, "only_if_faster=true")
    data = manifest(uneven, out)
    place = uneven.root / [b for _, b in LINE.findall(out)][-1]
    for name in ("grouped", "dense"):
        found = component(data, name)
        race = found["race"]
        assert race["chosen"] == min(race["ms"], key=race["ms"].__getitem__)
        step = "build" if race["chosen"] == "int8" else "build_fp32"
        engine = folder(uneven, data, f"{name}.{step}") / "engine.onnx"
        assert found["sha256"] == sha256(engine.read_bytes()).hexdigest()
        assert found["precision"]["asked"] == "int8"
        assert found["precision"]["delivered"]["heavy"].keys() == {{"int8": "int8", "fp32": "float32"}[race["chosen"]]}
        assert sha256((place.parent / f"{name}.onnx").read_bytes()).hexdigest() == found["sha256"]
    assert component(data, "grouped")["race"]["chosen"] == "fp32"
    parity = r"(\S+ dB ≥ 60 +\w+|identical)"  # on some processors float32 comes out bit for bit
    assert re.search(rf"\n grouped +int8 +fp32, faster +\d+\.\d kB +{parity} +\d+\.\d\d× fp32 ", out)
    assert "is slower in int8" not in out
    worst = {
        n: min(p["filtered"]["snr_db"] for p in component(d, "grouped")["parity"].values())
        for n, d in (("int8", before), ("fp32", data))
    }
    assert worst["int8"] < 60 < worst["fp32"]
    assert "nothing to do" in uneven.ok(*SYNTHETIC, "only_if_faster=true")


def test_a_component_that_holds_nothing_to_quantize_is_not_called_slower(tones: Project, tmp_path: Path) -> None:
    """The limiter is one Tanh: both files are the same."""
    root = tmp_path / "project"
    shutil.copytree(tones.root, root, ignore=shutil.ignore_patterns("outputs", "__pycache__"))
    limiter = {
        "onnx": "weights/limiter.onnx",
        "inputs": {"x": "signal"},
        "outputs": {"limited": {"onnx_name": "y", "dtype": "float32", "shape": ["n", "2*length"]}},
    }
    inputs = {"signal": {"dtype": "float32", "shape": ["n", "2*length"]}}
    project = replace(tones, root=root).pipeline("limited", {"limiter": limiter}, inputs)
    out = project.ok(*SYNTHETIC)
    assert component(manifest(project, out), "limiter")["race"] is None


# -- gates -------------------------------------------------------------------------------------------------


def test_a_gate_that_int8_cannot_meet(built: Project) -> None:
    before = built.files()
    err = built.fails(*NPZ, "gate.component.snr_db.int8=190")
    worst = r"(embedder|mixer)\.verify: snr_db \d+\.\d+ of '(features|mixed)' at \w+ \[.*\], the gate asks ≥ 190"
    lines = err.splitlines()
    assert re.fullmatch(f"error: {worst}", lines[0])
    assert "task=search" in lines[1]
    assert {name: content for name, content in built.files().items() if name in before} == before


def test_a_gate_at_the_end_that_int8_cannot_meet(built: Project) -> None:
    err = built.fails(*NPZ, "gate.end_to_end.snr_db.int8=190")
    fact, fix = err.splitlines()[:2]
    assert re.fullmatch(r"error: end_to_end: snr_db \d+\.\d+ of 'mixed' at \w+ \[.*\], the gate asks ≥ 190", fact)
    assert fix.startswith("  errors of embedder, mixer add up")


def test_ranges_that_clip_fail_the_gate(built: Project) -> None:
    """Whoever calibrates on silence is told."""
    save(built, recorded(mixer__features=FEATURES / 50))
    err = built.fails(*NPZ)
    assert re.search(r"(mixer\.verify|end_to_end): \w+ \S+ of 'mixed' at \w+ \[.*\], the gate asks ", err)
