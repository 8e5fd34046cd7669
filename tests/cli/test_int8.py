"""INT8 as a user has it, through the command line: data in, ranges, integers out, and what a mistake says."""

from __future__ import annotations

import re
import shutil
from collections import Counter
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from tests.tones import (
    LINE,
    NPZ,
    again,
    component,
    copied_to,
    folder,
    manifest,
    ranges_of,
    recorded,
    samples_of,
    save,
    to_run,
)

if TYPE_CHECKING:
    from tests.conftest import Project


# -- what a build says and leaves -------------------------------------------------------------------


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


def test_integers_and_masks_keep_their_types(tones: Project, first: str) -> None:
    given, kept = recorded(), list(samples_of(tones, manifest(tones, first), "embedder.samples"))
    assert {n: v.dtype for n, v in kept[0].items()} == {"ids": np.dtype(np.int64), "present": np.dtype(bool)}
    assert all((s["ids"] == i).all() for s, i in zip(kept, given["embedder/ids"], strict=True))
    assert all((s["present"] == p).all() for s, p in zip(kept, given["embedder/present"], strict=True))


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


# -- what runs again --------------------------------------------------------------------------------


def test_a_second_run_has_nothing_to_do(built: Project) -> None:
    before = built.files()
    assert re.match(r"tones on onnxruntime, int8: nothing to do, 27 steps reused → ", built.ok(*NPZ))
    assert built.files() == before


def test_one_changed_value_calibrates_again(built: Project) -> None:
    features = recorded()["mixer/features"]
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


def test_another_policy_neither_observes_nor_computes_ranges_again(built: Project) -> None:
    override = "+component.mixer.quantize.exclude=[tail.*]"
    planned = built.plan(*NPZ, override)
    assert to_run(planned) == again("mixer")
    assert planned["mixer.lower"] == ("run", "quantize.exclude [] → ['tail.*']")
    before = built.runs()
    out = built.ok(*NPZ, override)
    assert set(built.runs() - before) == again("mixer")
    assert re.search(r"\n mixer +int8 +int8 2/3 Conv/MatMul ", out)


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


def test_a_sweep_exports_and_calibrates_once(tones: Project, tmp_path: Path) -> None:
    project = copied_to(tmp_path / "project", tones, built=False)
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


# -- gates ------------------------------------------------------------------------------------------


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
    save(built, recorded(mixer__features=recorded()["mixer/features"] / 50))
    err = built.fails(*NPZ)
    assert re.search(r"(mixer\.verify|end_to_end): \w+ \S+ of 'mixed' at \w+ \[.*\], the gate asks ", err)
