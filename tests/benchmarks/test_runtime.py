"""What `Pipeline.run` adds to the engines' own time."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from statistics import median

import numpy as np
import onnxruntime
import pytest

from autovoice import Pipeline
from autovoice.runtime.manifest import sealed

pytestmark = pytest.mark.performance
FRAMES = 512


@pytest.fixture
def vocoder(request, tmp_path):
    """A folder with the built HiFi-GAN alone, its mel spectrogram the pipeline's input."""
    if "AUTOVOICE_BENCH_OUTPUTS" not in os.environ:
        request.getfixturevalue("only_enabled")
    built = request.getfixturevalue("shipped_outputs") / "voice_conversion" / "onnxruntime-fp32"
    manifest = json.loads((built / "manifest.json").read_bytes())
    (component,) = (c for c in manifest["components"] if c["name"] == "vocoder")
    manifest |= {"components": [component], "inputs": ["mel_output"], "outputs": ["audio_output"]}
    folder = tmp_path / "vocoder"
    folder.mkdir()
    shutil.copyfile(built / component["file"], folder / component["file"])
    (folder / "manifest.json").write_text(json.dumps(sealed(manifest)))
    return folder


def by_hand(folder):
    """[(session, its input, its output)] of every engine, made with ONNX Runtime's own defaults."""
    components = json.loads((folder / "manifest.json").read_bytes())["components"]
    return [
        (
            onnxruntime.InferenceSession(folder / c["file"], providers=["CPUExecutionProvider"]),
            next(iter(c["inputs"])),
            next(iter(c["outputs"])),
        )
        for c in components
    ]


def test_large_engine(measure, vocoder):
    """≤ 3 % on HiFi-GAN at 512 frames, six seconds of audio."""
    mel = np.random.default_rng(0).normal(-5, 2, (1, 80, FRAMES)).astype(np.float32)
    ((session, name, output),) = by_hand(vocoder)
    with Pipeline.load(vocoder) as pipeline:
        got = pipeline.run({"mel_output": mel})["audio_output"]
        np.testing.assert_array_equal(got, session.run([output], {name: mel})[0])
        seconds = measure.interleaved(
            lambda: pipeline.run({"mel_output": mel}),
            {"session": lambda: session.run([output], {name: mel})},
            rounds=31,
            warmup=2,
        )
    pairs = [a / b for a, b in zip(seconds["subject"], seconds["session"], strict=True)]
    measure.note(ratio_of_pairs=round(median(pairs), 5))
    measure.at_most("over_session", median(seconds["subject"]) / median(seconds["session"]), 1.03)


def test_small_engines(measure, chain):
    """≤ 100 µs a component of the runtime's own, beyond the call into ONNX Runtime."""
    outputs = next(a for a in chain if a.startswith("paths.outputs=")).partition("=")[2]
    (manifest,) = Path(outputs).glob("chain/*/manifest.json")
    folder = manifest.parent
    x = np.ones((1, 8, 16), np.float32)
    sessions = by_hand(folder)

    def raw():
        value = x
        for session, name, output in sessions:
            (value,) = session.run([output], {name: value})
        return value

    repeat = 50 if measure.enabled else 1

    def many(call):
        return lambda: [call() for _ in range(repeat)]

    with Pipeline.load(folder) as pipeline:
        (output,) = pipeline.output_names
        np.testing.assert_array_equal(pipeline.run({"w0": x})[output], raw())
        seconds = measure.interleaved(many(lambda: pipeline.run({"w0": x})), {"sessions": many(raw)}, rounds=51)
    own = (median(seconds["subject"]) - median(seconds["sessions"])) / repeat / len(sessions)
    measure.note(raw_us_per_component=round(1e6 * median(seconds["sessions"]) / repeat / len(sessions), 2))
    measure.at_most("own_us_per_component", 1e6 * own, 100)
