"""Where samples come from, through the command line; what each source and check says is in tests/calibration."""

from __future__ import annotations

import pickle
import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnxruntime as ort
import pytest

from tests.tones import (
    EMBEDDER,
    INPUTS,
    LOOSE,
    MIXER,
    NPZ,
    calibration,
    component,
    folder,
    manifest,
    ranges_of,
    recorded,
    samples_of,
    save,
    write,
)

if TYPE_CHECKING:
    from tests.conftest import Project


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


# -- mistakes: what each check says is held in tests/calibration and tests/steps -------------------------


def test_data_that_do_not_fit_are_named_with_their_step(built: Project) -> None:
    features = recorded()["mixer/features"]
    path = save(built, recorded(mixer__featurs=features, embedder__ids=recorded()["embedder/ids"].astype(np.int32)))
    said = built.fails(*NPZ, "keep_going=true")
    assert f"mixer.samples: {path}: 'mixer/featurs' is no input of it\n  did you mean 'features'? available: " in said
    fact = "embedder.samples: calibration of embedder, sample embedder/ids[0]: input 'ids' is int32, expected int64"
    assert f"{fact}\n  ids.astype(np.int64)\n" in said


def test_a_sample_outside_the_profile_is_taken_once_the_profile_is_wider(built: Project) -> None:
    save(built, recorded(mixer__features=recorded(length=13)["mixer/features"]))
    fact = "mixer.coverage: calibration of mixer, sample mixer/features[0]: length is 13, the profile 2 … 12"
    assert built.fails(*NPZ).startswith(f"error: {fact}\n  leave it out, or cut it, or dims.length.max=13\n")
    assert "12 samples: length 13 … 13 of 2 … 13\n" in built.ok(*NPZ, "dims.length.max=13")


def test_few_samples_are_enough_where_that_is_said(built: Project) -> None:
    save(built, recorded(**{k.replace("/", "__"): v[:1] for k, v in recorded().items() if k.startswith("mixer")}))
    assert "mixer.samples: calibration of mixer: 1 sample, at least 2 are needed\n" in built.fails(*NPZ)
    out = built.ok(*NPZ, "calibration.min_samples=1", *LOOSE)
    assert re.search(r"calibrated on .*\b1 samples?: length 7 … 7 ", out)


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


@pytest.mark.parametrize("damage", ["flipped", "one array"])
def test_a_file_that_is_no_npz(built: Project, damage: str) -> None:
    path = built.root / "data.npz"
    content = bytearray(path.read_bytes())
    if damage == "flipped":
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    else:
        with open(path, "wb") as file:
            np.save(file, np.zeros((12, 1, 7, 8), np.float32))
    err = built.fails(*NPZ)
    assert err.startswith(("error: mixer.samples: ", "error: embedder.samples: "))
    assert f"{path}: " in err.splitlines()[0]
    assert "not an error this tool expects" not in err
    assert "unsafely" not in err


@pytest.mark.parametrize(
    ("target", "fact"),
    [
        (
            "tones.sources.raises",
            "mixer.samples: calibration.source: tones.sources.raises raised RuntimeError: the mic",
        ),
        (
            "tones.absent.samples",
            "mixer.samples: calibration.source: importing tones.absent raised ModuleNotFoundError",
        ),
        ("tones.sources.overflows", "mixer.observe: sample 00000.npz: '"),
        ("tones.source.samples", "component.mixer: _target_ 'tones.source.samples': there is no module "),
    ],
    ids=["raises", "does not import", "overflows", "no module"],
)
def test_a_source_that_is_wrong(built: Project, target: str, fact: str) -> None:
    write(built, absent="import absent_library\n")
    calibration(built, "mine", source={"_target_": target})
    right = calibration(built, "right", source={"_target_": "tones.sources.samples"})
    err = built.fails("precision=int8", "calibration=mine", f"component.embedder.{right}")
    assert err.startswith(f"error: {fact}")
    assert "not an error this tool expects" not in err


def test_a_configuration_that_is_wrong_writes_nothing(built: Project) -> None:
    before = built.files()
    fact = "component.embedder.calibration, component.mixer.calibration: int8 needs calibration data, 'none' has none"
    assert built.fails("precision=int8", "calibration=none").startswith(f"error: {fact}\n  calibration=npz ")
    assert built.files() == before


def test_advice_on_a_policy_names_the_component(built: Project) -> None:
    fact = "embedder.lower: the policy chooses none of 1 nodes to quantize"
    fix = "it has MatMul; ++component.embedder.quantize.op_types=[] leaves it as it is, on purpose"
    said = built.fails(*NPZ, "+component.embedder.quantize.first=false")
    assert said.startswith(f"error: {fact}\n  {fix}")


def test_a_component_that_the_policy_leaves_out_needs_no_data(built: Project) -> None:
    save(built, recorded(embedder__ids=None, embedder__present=None))
    out = built.ok(*NPZ, "+component.embedder.quantize.op_types=[]")
    assert re.search(r"\n embedder +int8 +fp32 \d+/\d+ nodes, by policy ", out)
    data = manifest(built, out)
    assert component(data, "embedder")["calibration"] is None
    assert component(data, "embedder")["race"] is None
    assert "embedder.samples" not in data["steps"]
