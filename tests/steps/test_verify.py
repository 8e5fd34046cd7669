"""When audio distances mean something, what is measured at all, and what a gate says of it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from autovoice.errors import GateError
from autovoice.measure.audio import audio_distances, shortest
from autovoice.spec import AUDIO_METRICS
from autovoice.steps.verify import Known, judge, parities, trained
from autovoice.store.atomic import RECORD

if TYPE_CHECKING:
    from tests.conftest import Project

# -- whose weights are trained ---------------------------------------------------------------------

SEEDED = {"parameters": 12, "weights": {"seed": 0}}
LOADED = {"parameters": 12, "weights": {"checkpoint": "w.pt", "loaded": 2, "missing": 0, "extra": 0}}
PARTLY = {"parameters": 12, "weights": {"checkpoint": "w.pt", "loaded": 2, "missing": 1, "extra": 0}}
EMPTY = {"parameters": 0, "weights": {"seed": 0}}
ONNX_FILE = {"nodes": 4, "opset": 18}


def needs(root: Path, **exports: Mapping[str, Any]) -> dict[str, Path]:
    """Folders by role as a step gets them, those that are no exports among them."""
    found = {"build": root / "build", "reference": root / "reference"}
    for name, result in exports.items():
        folder = found[f"export:{name}"] = root / name
        folder.mkdir()
        (folder / RECORD).write_text(json.dumps({"result": result}))
    return found


@pytest.mark.parametrize(
    ("result", "expected"),
    [(SEEDED, False), (LOADED, True), (PARTLY, False), (EMPTY, True), (ONNX_FILE, True)],
    ids=["seeded", "checkpoint", "partly loaded", "no parameters", "ONNX file"],
)
def test_a_component_is_trained(tmp_path: Path, result: Mapping[str, Any], expected: bool) -> None:
    assert trained(needs(tmp_path, one=result)) is expected


def test_one_seeded_component_upstream_is_enough(tmp_path: Path) -> None:
    given = needs(tmp_path, a=LOADED, b=ONNX_FILE, c=EMPTY)
    assert trained(given)
    assert not trained(given | needs(tmp_path, d=SEEDED))


# -- what is measured ------------------------------------------------------------------------------

RATE = 16000


def waves(samples: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(samples)
    reference = 0.1 * rng.standard_normal((2, samples)).astype(np.float32)
    return reference + 1e-3 * rng.standard_normal((2, samples)).astype(np.float32), reference


@pytest.mark.parametrize(("samples", "long_enough"), [(2047, False), (2048, True), (4000, True)])
def test_waveforms_long_enough_have_audio_distances(samples: int, long_enough: bool) -> None:
    assert shortest(RATE) == 2048
    got, reference = waves(samples)
    known = Known({"wave": ("n", "samples")}, {"wave": RATE})
    found = parities({"wave": got}, {"wave": reference}, "max", known)["wave"]
    assert (set(AUDIO_METRICS) <= found.keys()) is long_enough
    assert {m: found[m] for m in AUDIO_METRICS if m in found} == (
        audio_distances(got, reference, RATE) if long_enough else {}
    )
    assert 35 < found["snr_db"] < 45
    assert found["shape"] == [2, samples]


def test_only_wires_that_are_waveforms_have_audio_distances() -> None:
    got, reference = waves(4000)
    found = parities(
        {"wave": got, "energy": got}, {"wave": reference, "energy": reference}, "max", Known(audio={"wave": RATE})
    )
    assert "lsd_db" in found["wave"]
    assert not found["energy"].keys() & set(AUDIO_METRICS)


def test_a_wrong_shape_is_told_before_any_distance() -> None:
    got, reference = waves(4000)
    with pytest.raises(GateError) as e:
        parities({"wave": got[:, 1:]}, {"wave": reference}, "max", Known(audio={"wave": RATE}))
    assert str(e.value).splitlines() == [
        "'wave' at max: shape [2, 3999], the reference has [2, 4000]",
        "  the engine does not compute what the module does",
    ]


# -- gates -----------------------------------------------------------------------------------------

REPORT: dict[str, dict[str, dict[str, Any]]] = {
    "min": {
        "a": {"snr_db": 40.0, "max_abs": 0.5, "shape": [1, 2]},
        "b": {"snr_db": 33.0, "max_abs": 0.1, "shape": [1]},
    },
    "max": {
        "a": {"snr_db": 31.25, "max_abs": 0.2, "shape": [2, 9]},
        "b": {"snr_db": 60.0, "max_abs": 0.75, "lsd_db": 1.5, "shape": [7]},
    },
}


def _advice(report: object, metric: str, threshold: float) -> str:
    return f"about {metric}"


def verdict(**gates: float) -> list[str]:
    with pytest.raises(GateError) as e:
        judge(REPORT, gates, _advice)
    return str(e.value).splitlines()


def test_of_a_score_the_smallest_of_all_points_is_judged() -> None:
    assert verdict(snr_db=32) == ["snr_db 31.25 of 'a' at max [2, 9], the gate asks ≥ 32", "  about snr_db"]


def test_of_an_error_the_largest_of_all_points_is_judged() -> None:
    assert verdict(max_abs=0.7) == ["max_abs 0.75 of 'b' at max [7], the gate asks ≤ 0.7", "  about max_abs"]


def test_an_audio_distance_is_an_error() -> None:
    assert verdict(lsd_db=1.4) == ["lsd_db 1.5 of 'b' at max [7], the gate asks ≤ 1.4", "  about lsd_db"]


@pytest.mark.parametrize("gates", [{"snr_db": 31.25}, {"max_abs": 0.75}, {"lsd_db": 1.5}, {}], ids=str)
def test_a_threshold_that_is_just_met(gates: dict[str, float]) -> None:
    judge(REPORT, gates, _advice)


def test_a_metric_that_no_tensor_has_is_not_judged_and_the_next_one_is() -> None:
    judge(REPORT, {"pooled_cosine": 2, "mcd_db": -1}, _advice)
    assert verdict(pooled_cosine=2, mcd_db=-1, snr_db=32)[0].startswith("snr_db 31.25 of 'a'")


# -- through the command line ----------------------------------------------------------------------

BELL = '''"""A waveform to another."""

import torch
from torch import nn


class Bell(nn.Module):
    """x float32 [n, samples] → wave [n, samples]."""

    def __init__(self):
        super().__init__()
        self.body = nn.Conv1d(1, 8, 3, padding=1)
        self.tail = nn.Conv1d(8, 1, 3, padding=1)

    def forward(self, x):
        return self.tail(torch.relu(self.body(x.unsqueeze(1)))).squeeze(1)
'''
SHAPE = ["n", "512*length"]  # 1024 samples at min, too few; 2560 at opt, 6144 at max
LONG = ["opt", "max", "between"]
LOADS = "component.bell.checkpoint=weights/bell.safetensors"
SYNTHETIC = ("precision=int8", "calibration=synthetic", "gate.component.snr_db.int8=0", "gate.end_to_end.snr_db.int8=0")
LOOSE = [f"gate.{part}.{metric}.int8=50" for part in ("component", "end_to_end") for metric in ("lsd_db", "mcd_db")]
NOTE = " note: no audio distances of wave: they mean nothing where weights are untrained"


@pytest.fixture(scope="module")
def bell(toy_project: Project) -> Project:
    """One component from waveform to waveform, and a checkpoint for it."""
    (toy_project.root / "src" / "chime" / "bell.py").write_text(BELL)
    torch.manual_seed(1)
    layers = nn.ModuleDict({"body": nn.Conv1d(1, 8, 3), "tail": nn.Conv1d(8, 1, 3)})
    save_file(layers.state_dict(), toy_project.root / "weights" / "bell.safetensors")
    own = {key: f"${{{key}}}" for key in ("precision", "backend", "calibration", "gate")}
    component = {
        "model": {"_target_": "chime.bell.Bell"},
        "checkpoint": None,
        "inputs": {"x": "signal"},
        "outputs": {"wave": {"dtype": "float32", "shape": SHAPE, "audio": RATE}},
        **own,
    }
    signal = {"dtype": "float32", "shape": SHAPE, "example": {"normal": [0, 0.1]}}
    return toy_project.pipeline("bell", {"bell": component}, {"signal": signal})


def manifest(project: Project, out: str) -> dict[str, Any]:
    path = re.findall(r"outputs/\S+/manifest\.json", out)[-1]
    data: dict[str, Any] = json.loads((project.root / path).read_bytes())
    return data


def with_audio(parity: Mapping[str, Mapping[str, Mapping[str, float]]]) -> list[str]:
    """The points at which all audio distances of the wave are there, none of them at the others."""
    found = {point: [m for m in AUDIO_METRICS if m in wires["wave"]] for point, wires in parity.items()}
    assert all(metrics in ([], list(AUDIO_METRICS)) for metrics in found.values())
    return [point for point, metrics in found.items() if metrics]


def test_trained_weights_have_audio_distances(bell: Project) -> None:
    data = manifest(bell, bell.ok(LOADS, "+gate.component.lsd_db.fp32=0.1"))
    assert data["components"][0]["gates"]["lsd_db"] == 0.1
    for parity in (data["components"][0]["parity"], data["end_to_end"]["parity"]):
        assert sorted(with_audio(parity)) == sorted(LONG)
        assert all(0 <= parity[point]["wave"]["lsd_db"] < 0.1 for point in LONG)


def test_a_gate_on_the_spectral_distance_fails_the_build(bell: Project) -> None:
    err = bell.fails(LOADS, "+gate.component.lsd_db.fp32=-1")
    fact = r"error: bell\.verify: lsd_db \S+ of 'wave' at (opt|max|between) \[[12], \d+\], the gate asks ≤ -1"
    first, second = err.splitlines()[:2]
    assert re.fullmatch(fact, first)
    assert re.search(r"; or gate\.component\.lsd_db\.fp32=\d", second)


def test_seeded_weights_have_none_and_are_not_judged_by_them(bell: Project) -> None:
    out = bell.ok("+gate.component.lsd_db.fp32=-1", "+gate.end_to_end.lsd_db.fp32=-1")
    data = manifest(bell, out)
    assert "lsd_db" not in data["components"][0]["gates"].keys() | data["end_to_end"]["gates"].keys()
    assert with_audio(data["components"][0]["parity"]) == with_audio(data["end_to_end"]["parity"]) == []


def test_where_no_gate_asks_for_them_their_absence_is_not_told(bell: Project) -> None:
    out = bell.ok()
    assert " bell " in out
    assert NOTE not in out


def test_of_seeded_weights_in_int8_it_is_told(bell: Project) -> None:
    out = bell.ok(*SYNTHETIC)
    assert NOTE in out.splitlines()
    assert with_audio(manifest(bell, out)["components"][0]["parity"]) == []


def test_of_trained_weights_in_int8_there_is_nothing_to_tell(bell: Project) -> None:
    out = bell.ok(LOADS, *SYNTHETIC, *LOOSE)
    assert NOTE not in out
    data = manifest(bell, out)
    parity = data["components"][0]["parity"]
    assert sorted(with_audio(parity)) == sorted(LONG)
    assert all(parity[point]["wave"]["lsd_db"] > 1e-3 for point in LONG)
