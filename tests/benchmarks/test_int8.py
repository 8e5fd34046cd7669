"""What int8 wins on ONNX Runtime, and what calibration costs: always against float32 in the same run."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from statistics import median

import numpy as np
import onnx
import onnxruntime
import pytest

from autovoice import Pipeline
from autovoice.calibration.observe import observe
from autovoice.measure.parity import compare
from autovoice.onnx_tools.lowering.policy import watched_tensors

pytestmark = [pytest.mark.performance, pytest.mark.slow, pytest.mark.usefixtures("only_enabled")]
SENTENCES = Path(__file__).parent.parent / "sentences"
CLIPS = 32


@pytest.fixture(scope="session")
def quantized(command, shipped_outputs):
    """The default pipeline in int8: calibrated on the shipped recordings, its gates passed."""
    command("precision=int8", f"paths.outputs={shipped_outputs}")
    return shipped_outputs / "voice_conversion"


@pytest.fixture(scope="session")
def encoder(command, tmp_path_factory):
    """The sentence encoder in both precisions, calibrated on 120 sentences."""
    root = tmp_path_factory.mktemp("sentences")
    subprocess.run([sys.executable, SENTENCES / "make_tokens.py", root / "tokens"], check=True)
    data = ("calibration=npy", f"calibration.files={root / 'tokens'}", f"paths.outputs={root / 'outputs'}")
    command("pipeline=sentence_encoder", "precision=fp32", *data)
    command("pipeline=sentence_encoder", "precision=int8", *data)
    folders = {p.parent.name.split("-")[1]: p.parent for p in root.glob("outputs/sentence_encoder/*/manifest.json")}
    return folders["int8"], folders["fp32"]


def raced(measure, name, folders, feeds, bound):
    """One component of two built folders, in turn."""
    with Pipeline.load(folders[0]) as int8, Pipeline.load(folders[1]) as fp32:
        subject, other = int8.component(name), fp32.component(name)
        for output, wanted in other.run(feeds).items():  # what is fast must also be right
            assert compare(subject.run(feeds)[output], wanted).cosine > 0.9
        seconds = measure.interleaved(
            lambda: subject.run(feeds), {"fp32": lambda: other.run(feeds)}, rounds=31, warmup=3
        )
    measure.at_most("of_fp32", median(seconds["subject"]) / median(seconds["fp32"]), bound)


@pytest.mark.parametrize("frames", [128, 512])
def test_flow_decoder(measure, quantized, frames):
    """≤ 0.5× of float32."""
    rng = np.random.default_rng(0)
    feeds = {
        "latent_input": rng.standard_normal((1, 192, frames), np.float32),
        "mask": np.ones((1, 1, frames), np.float32),
        "conditioning": rng.standard_normal((1, 704, frames), np.float32),
    }
    folders = quantized / "onnxruntime-int8", quantized / "onnxruntime-fp32"
    raced(measure, "flow_decoder", folders, feeds, 0.5)


@pytest.mark.parametrize("frames", [128, 512])
def test_hifigan(measure, quantized, frames):
    """≤ 0.5× of float32."""
    mel = np.random.default_rng(0).normal(-5, 2, (1, 80, frames)).astype(np.float32)
    folders = quantized / "onnxruntime-int8", quantized / "onnxruntime-fp32"
    raced(measure, "vocoder", folders, {"mel_input": mel}, 0.5)


def test_sentence_encoder(measure, encoder):
    """8 sentences of 64 tokens: ≤ 0.6× of float32."""
    feeds = {
        "input_ids": np.random.default_rng(0).integers(1000, 20000, (8, 64)),
        "attention_mask": np.ones((8, 64), np.int64),
    }
    raced(measure, "encoder", encoder, feeds, 0.6)


@pytest.fixture
def clips(command, shipped_outputs, tmp_path):
    """HiFi-GAN as exported, and what reaches it of 32 excerpts of 2 to 6 s of the shipped recordings."""
    options = [f"+calibration.source.samples={CLIPS}", "calibration.source.seconds=[2,6]"]
    given = ["precision=int8", *(o.lstrip("+") for o in options), f"paths.outputs={shipped_outputs}"]
    command(*given)
    (manifest,) = (m for m in shipped_outputs.glob("voice_conversion/onnxruntime-int8-*/manifest.json"))
    steps = json.loads(manifest.read_bytes())["steps"]
    store = shipped_outputs / "store" / "objects"
    folder = {name: store / key[:2] / key for name, key in steps.items()}
    mels = sorted(folder["mel_projection.activations_speech"].glob("*.npz"))
    assert len(mels) == CLIPS
    feeds = [(p.name, {"mel_input": np.load(p)["mel_output"]}) for p in mels]
    return folder["vocoder.export"] / "model.onnx", feeds


def test_calibration_of_hifigan(measure, clips):
    """Observing 32 clips of 2 to 6 s takes ≤ 2× the plain forward passes; memory is that of one clip."""
    path, feeds = clips
    tensors = watched_tensors(onnx.load(path))
    plain = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])

    def forward():
        for _, feed in feeds:
            plain.run(None, feed)

    seconds = measure.interleaved(lambda: observe(path, tensors, [], feeds), {"forward": forward}, rounds=3, warmup=0)
    measure.at_most("of_forward", median(seconds["subject"]) / median(seconds["forward"]), 2.0)


MEMORY = """
import resource, sys
import numpy as np, onnx
from pathlib import Path
from autovoice.calibration.observe import observe
from autovoice.onnx_tools.lowering.policy import watched_tensors
from autovoice.measure.parity import compare
path, count = Path(sys.argv[1]), int(sys.argv[2])
feed = {"mel_input": np.random.default_rng(0).normal(-5, 2, (1, 80, 256)).astype(np.float32)}
tensors = watched_tensors(onnx.load(path))
counted = tensors[:: 8]
observe(path, tensors, counted, ((str(i), feed) for i in range(count)))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def test_calibration_memory(measure, clips):
    """Eight times the samples, every eighth tensor with a histogram: the same memory, within 5 %."""
    path, _ = clips

    def peak(count):
        done = subprocess.run(
            [sys.executable, "-c", MEMORY, path, str(count)], check=True, capture_output=True, text=True
        )
        return int(done.stdout)

    few = peak(4)
    many = measure.benchmark.pedantic(peak, args=(32,))
    measure.note(few_mib=few // 1024, many_mib=many // 1024)
    measure.at_most("of_few", many / few, 1.05)
