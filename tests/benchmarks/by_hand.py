"""The shipped pipeline in float32 by hand: the calls that a build makes, and nothing around them.

    python by_hand.py folder

One process, one call after another: modules, torch.onnx.export, onnxslim, the copy that the float32 lowering is,
and ONNX Runtime against PyTorch at min, opt, max and between, component by component and end to end. Every
session is made as often as the steps of a build make it: to build, to verify, to run end to end. Prints seconds
by kind of call, and the sizes of the points, as JSON.
"""

# ruff: noqa: E402 - what the imports take is part of what is measured
from __future__ import annotations

import json
import math
import shutil
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

START = time.perf_counter()

import numpy as np
import onnx
import onnxruntime
import onnxslim
import torch
from torch import nn
from torch.export import Dim

from autovoice.models.conditioner import Conditioner
from autovoice.models.content_encoder import CnnContentEncoder
from autovoice.models.flow_decoder import FlowDecoder
from autovoice.models.mel_projection import MelProjection
from autovoice.models.pitch_encoder import PitchEncoder
from autovoice.models.vocoder import HifiganVocoder
from autovoice.modules.weights import fold_weight_norm

SECONDS: dict[str, float] = {"imports": time.perf_counter() - START}

#: component → (its module, {argument: wire}, the wire it makes)
COMPONENTS = {
    "content_encoder": (
        CnnContentEncoder,
        {"input_audio": "input_audio", "sample_rate": "sample_rate"},
        "content_features",
    ),
    "pitch_encoder": (PitchEncoder, {"f0_input": "f0_input", "voiced_mask": "voiced_mask"}, "pitch_features"),
    "conditioner": (
        Conditioner,
        {n: n for n in ("content_features", "pitch_features", "speaker_embedding")},
        "conditioning",
    ),
    "flow_decoder": (FlowDecoder, {n: n for n in ("latent_input", "mask", "conditioning")}, "output_latent"),
    "mel_projection": (MelProjection, {"latent_input": "output_latent"}, "mel_output"),
    "vocoder": (HifiganVocoder, {"mel_input": "mel_output"}, "audio_output"),
}
SHAPES = {
    "input_audio": ["batch", "samples"],
    "sample_rate": [1],
    "f0_input": ["batch", "frames"],
    "voiced_mask": ["batch", "frames"],
    "speaker_embedding": ["batch", 256],
    "latent_input": ["batch", 192, "frames"],
    "mask": ["batch", 1, "frames"],
    "content_features": ["batch", "content_frames", 256],
    "pitch_features": ["batch", "frames", 192],
    "conditioning": ["batch", 704, "frames"],
    "output_latent": ["batch", 192, "frames"],
    "mel_output": ["batch", 80, "frames"],
}
TRACE = {"batch": 2, "frames": 24, "samples": 4800}
POINTS = {"min": (1, 16), "opt": (1, 256), "max": (2, 1024), "between": (1, 641)}


@contextmanager
def timed(kind: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    SECONDS[kind] = SECONDS.get(kind, 0.0) + time.perf_counter() - start


def sizes_at(point: str) -> dict[str, int]:
    batch, frames = POINTS[point]
    samples = {p: math.ceil(f * 256 * 16000 / 22050) for p, (_, f) in POINTS.items()}
    if point == "between":  # the middle of the samples' own profile, odd
        middle = (samples["opt"] + samples["max"]) // 2
        samples["between"] = middle if middle % 2 else middle + 1
    return {"batch": batch, "frames": frames, "samples": samples[point]}


def with_content_frames(sizes: dict[str, int]) -> dict[str, int]:
    return sizes | {"content_frames": (sizes["samples"] - 80) // 320}


def array(wire: str, sizes: dict[str, int], rng: np.random.Generator) -> np.ndarray:
    shape = [a if isinstance(a, int) else sizes[a] for a in SHAPES[wire]]
    if wire == "sample_rate":
        return np.full(shape, 16000, np.int32)
    if wire == "voiced_mask":
        return rng.random(shape) < 0.8
    if wire == "mask":
        return np.ones(shape, np.float32)
    if wire == "f0_input":
        return rng.uniform(80, 800, shape).astype(np.float32)
    return rng.normal(0, 0.1 if wire == "input_audio" else 1, shape).astype(np.float32)


def export(module: nn.Module, inputs: dict[str, str], output: str, path: Path) -> None:
    sizes, rng = with_content_frames(TRACE), np.random.default_rng(0)
    feeds = {local: torch.from_numpy(array(wire, sizes, rng)) for local, wire in inputs.items()}
    dims = {name: Dim(name) for name in sizes}
    dynamic = {n: {i: dims[a] for i, a in enumerate(SHAPES[w]) if isinstance(a, str)} for n, w in inputs.items()}
    with timed("torch.onnx.export"), warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            module,
            kwargs=feeds,
            dynamo=True,
            dynamic_shapes=dynamic,
            output_names=[output],
            opset_version=18,
            external_data=False,
            optimize=True,
            verbose=False,
        )
    with timed("onnxslim"):
        model = onnxslim.slim(program.model_proto)
    with timed("save"):
        onnx.save(model, path)


def session(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    with timed("ort.load"):
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def snr_db(got: np.ndarray, reference: np.ndarray) -> float:
    with timed("compare"):
        x, r = got.astype(np.float64).ravel(), reference.astype(np.float64).ravel()
        error = np.linalg.norm(x - r)
        return 200.0 if error == 0 else float(20 * np.log10(np.linalg.norm(r) / error))


def run_torch(module: nn.Module, inputs: dict[str, str], wires: dict[str, np.ndarray]) -> np.ndarray:
    feeds = {local: torch.from_numpy(wires[wire]) for local, wire in inputs.items()}
    with timed("torch.run"), torch.inference_mode():
        return module(**feeds).numpy()


def run_ort(
    loaded: onnxruntime.InferenceSession, inputs: dict[str, str], output: str, wires: dict[str, np.ndarray]
) -> np.ndarray:
    with timed("ort.run"):
        return loaded.run([output], {local: wires[wire] for local, wire in inputs.items()})[0]


def main(folder: Path) -> None:
    made = {wire for _, _, wire in COMPONENTS.values()}
    external = [wire for wire in SHAPES if wire not in made]
    reference = {}
    for i, point in enumerate(POINTS):
        rng = np.random.default_rng([0, i])
        with timed("inputs"):
            reference[point] = {wire: array(wire, sizes_at(point), rng) for wire in external}
    given = {point: dict(wires) for point, wires in reference.items()}
    worst = math.inf
    for name, (cls, inputs, output) in COMPONENTS.items():
        with timed("modules"):
            torch.manual_seed(0)
            module = cls()
            fold_weight_norm(module)
            module = module.eval().requires_grad_(False)
        export(module, inputs, output, folder / f"{name}.onnx")
        with timed("lowering"):
            shutil.copyfile(folder / f"{name}.onnx", folder / f"{name}.fp32.onnx")
        session(folder / f"{name}.fp32.onnx")
        verified = session(folder / f"{name}.fp32.onnx")
        for wires in reference.values():
            wires[output] = run_torch(module, inputs, wires)
            worst = min(worst, snr_db(run_ort(verified, inputs, output, wires), wires[output]))
    sessions = {name: session(folder / f"{name}.fp32.onnx") for name in COMPONENTS}
    for point, wires in given.items():
        for name, (_, inputs, output) in COMPONENTS.items():
            wires[output] = run_ort(sessions[name], inputs, output, wires)
        worst = min(worst, snr_db(wires["audio_output"], reference[point]["audio_output"]))
    assert worst > 50, worst
    calls = sum(s for kind, s in SECONDS.items() if kind != "imports")
    points = {p: with_content_frames(sizes_at(p)) for p in POINTS}
    print(json.dumps({"calls": calls, "wall": time.perf_counter() - START, "by_kind": SECONDS, "points": points}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
