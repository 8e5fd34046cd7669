from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autovoice.calibration.samples import SampleChecker, entries_of, sample_feeds, sample_files, write_samples
from autovoice.errors import CalibrationError
from autovoice.store.npz import read_npz, write_npz
from tests.builders import sent

INPUTS = {
    "mel": {"dtype": "float32", "shape": ["batch", 2, "frames"]},
    "tokens": {"dtype": "int64", "shape": ["batch", "frames"]},
    "mask": {"dtype": "float32", "shape": ["batch", 1, "frames"], "default": 1},
}


def sample(frames: int = 3, **changes: Any) -> dict[str, Any]:
    made = {
        "mel": np.arange(2 * frames, dtype=np.float32).reshape(1, 2, frames),
        "tokens": np.ones((1, frames), np.int64),
    }
    return {k: v for k, v in (made | changes).items() if v is not None}


@pytest.fixture
def checker() -> SampleChecker:
    return SampleChecker(INPUTS, {}, ["batch", "frames"], "encoder")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path


def names_and_feeds(out: Path) -> list[dict[str, np.ndarray]]:
    return [read_npz(out / name) for name in sample_files(out)]


# -- what fits -------------------------------------------------------------------------------------


def test_samples_of_any_length_are_written_whole(checker: SampleChecker, out: Path) -> None:
    given = [sample(1), sample(500), sample(3)]
    write_samples(out, given, checker, 2)
    for got, gave in zip(names_and_feeds(out), given, strict=True):
        assert got.keys() == INPUTS.keys()
        assert all(np.array_equal(got[n], v) and got[n].dtype == v.dtype for n, v in gave.items())


def test_defaults_are_filled_in_at_the_samples_size(checker: SampleChecker) -> None:
    mask = checker.checked("0", sample(7))["mask"]
    assert (mask.shape, mask.dtype, mask.min(), mask.max()) == ((1, 1, 7), np.float32, 1, 1)


def test_a_default_gives_way_to_what_is_given(checker: SampleChecker) -> None:
    mask = np.zeros((1, 1, 3), np.float32)
    assert checker.checked("0", sample(mask=mask))["mask"] is mask


def test_derived_sizes_are_followed() -> None:
    inputs = {
        "audio": {"dtype": "float32", "shape": [1, "samples"]},
        "features": {"dtype": "float32", "shape": [1, "half"]},
    }
    checker = SampleChecker(inputs, {"half": "samples // 2"}, ["samples", "half"], "encoder")
    audio = np.zeros((1, 9), np.float32)
    assert checker.checked("0", {"audio": audio, "features": np.zeros((1, 4), np.float32)})
    with pytest.raises(CalibrationError, match=r"calibration of encoder, sample 0: half is 5, but samples // 2 is 4"):
        checker.checked("0", {"audio": audio, "features": np.zeros((1, 5), np.float32)})


def test_the_manifest_tells_names_digests_and_shapes(checker: SampleChecker, out: Path) -> None:
    entries = write_samples(out, [("alice.wav 1.2 s", sample(3)), sample(2)], checker, 1)
    assert [e["name"] for e in entries] == ["alice.wav 1.2 s", "1"]
    assert entries[1]["shapes"] == {"mask": [1, 1, 2], "mel": [1, 2, 2], "tokens": [1, 2]}
    for entry, name in zip(entries, ["00000.npz", "00001.npz"], strict=True):
        assert entry["sha256"] == hashlib.sha256((out / name).read_bytes()).hexdigest()
    assert json.loads((out / "samples.json").read_text()) == {"samples": entries}
    assert entries_of(out) == entries
    assert sample_files(out) == ["00000.npz", "00001.npz"]


def test_the_same_samples_are_the_same_bytes(checker: SampleChecker, tmp_path: Path) -> None:
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder in folders:
        folder.mkdir()
        write_samples(folder, [sample(3), sample(4)], checker, 1)
    a, b = ({p.name: p.read_bytes() for p in f.iterdir()} for f in folders)
    assert a == b


# -- what does not ---------------------------------------------------------------------------------

NAN = np.array([[[np.nan, 0, np.inf], [0, 0, -np.inf]]], np.float32)


@pytest.mark.parametrize(
    ("changes", "fact", "fix"),
    [
        pytest.param(
            {"mel": np.zeros((1, 2, 3))},
            "input 'mel' is float64, expected float32",
            "mel.astype(np.float32)",
            id="dtype",
        ),
        pytest.param(
            {"tokens": np.zeros((1, 3), np.int32)}, "input 'tokens' is int32, expected int64", "astype", id="integers"
        ),
        pytest.param(
            {"mel": np.zeros((2, 3), np.float32)},
            "input 'mel' has shape [2, 3], expected [batch, 2, frames]",
            "3 axes, got 2",
            id="rank",
        ),
        pytest.param(
            {"mel": np.zeros((1, 5, 3), np.float32)}, "input 'mel' axis 1 is 5, expected 2", "shape", id="fixed_axis"
        ),
        pytest.param({"mel": None}, "input 'mel' is missing", "given: tokens; inputs: mask, mel, tokens", id="missing"),
        pytest.param(
            {"mell": np.zeros(1, np.float32)}, "there is no input 'mell'", "did you mean 'mel'? available", id="extra"
        ),
        pytest.param(
            {"tokens": np.ones((1, 4), np.int64)},
            "input 'tokens' axis 1 (frames) is 4, but input 'mel' has 3",
            "inputs that share 'frames' must agree",
            id="sizes_disagree",
        ),
        pytest.param({"mel": NAN}, "'mel' has 3 values that are not finite", "leave that sample out", id="not_finite"),
        pytest.param(
            {"mel": np.zeros((1, 2, 0), np.float32)}, "'mel' is empty", "shape [1, 2, 0]", id="empty_along_an_axis"
        ),
        pytest.param({"mel": [[[1.0]]]}, "input 'mel' is a list", "give a numpy array", id="list"),
        pytest.param({"mel": None, "tokens": None}, "input 'mel' is missing", "given: none", id="nothing"),
    ],
)
def test_a_sample_that_does_not_fit(
    changes: dict[str, Any], fact: str, fix: str, checker: SampleChecker, out: Path
) -> None:
    with pytest.raises(CalibrationError) as raised:
        write_samples(out, [sample(), ("bob.wav", sample(**changes))], checker, 1)
    assert raised.value.fact == f"calibration of encoder, sample bob.wav: {fact}"
    assert fix in raised.value.fix


@pytest.mark.parametrize(
    ("item", "name", "kind"),
    [
        (np.zeros(3), "1", "ndarray"),
        ([np.zeros(3)], "1", "list"),
        (("bob.wav", np.zeros(3)), "bob.wav", "ndarray"),
        (None, "1", "NoneType"),
    ],
    ids=["array", "list", "named_array", "nothing"],
)
def test_an_item_that_is_no_sample(item: Any, name: str, kind: str, checker: SampleChecker, out: Path) -> None:
    with pytest.raises(CalibrationError) as raised:
        write_samples(out, [sample(), item], checker, 1)
    assert raised.value.fact == f"calibration of encoder, sample {name}: is a {kind}"
    assert raised.value.fix == "a source yields {input: array}, or (name, {input: array})"


@pytest.mark.parametrize("item", [(sample(),), (1, 2, 3), ()], ids=["one", "three", "empty"])
def test_a_tuple_that_is_no_pair(item: Any, checker: SampleChecker, out: Path) -> None:
    with pytest.raises(CalibrationError, match=r"calibration of encoder, sample 0: is a tuple"):
        write_samples(out, [item], checker, 1)


@pytest.mark.parametrize(
    ("given", "least", "said"),
    [
        ([], 1, "no sample at all, at least 1 are needed"),
        ([], 2, "no sample at all, at least 2 are needed"),
        ([sample()], 2, "1 sample, at least 2 are needed"),
        ([sample()] * 3, 4, "3 samples, at least 4 are needed"),
    ],
    ids=["none", "none_of_two", "one", "three"],
)
def test_too_few_samples(given: Iterable[Any], least: int, said: str, checker: SampleChecker, out: Path) -> None:
    with pytest.raises(CalibrationError) as raised:
        write_samples(out, given, checker, least)
    assert raised.value.fact == f"calibration of encoder: {said}"
    assert "calibration.files" in raised.value.fix
    assert "calibration.min_samples=1" in raised.value.fix


def test_samples_are_taken_one_at_a_time(checker: SampleChecker, out: Path) -> None:
    """A thousand samples never lie in memory together: each is written before the next is asked for."""
    seen = []

    def source() -> Iterable[dict[str, Any]]:
        for _ in range(3):
            seen.append(len(sample_files(out)))
            yield sample()

    write_samples(out, source(), checker, 1)
    assert seen == [0, 1, 2]


# -- reading them ----------------------------------------------------------------------------------


def put(folder: Path, count: int, **wires: float) -> Path:
    folder.mkdir()
    for i in range(count):
        with open(folder / f"{i:05d}.npz", "wb") as file:
            write_npz(file, {w: np.array([v + i], np.float32) for w, v in wires.items()})
    (folder / "samples.json").write_text("{}")
    return folder


@pytest.mark.parametrize("shards", [1, 2, 3, 9])
def test_shards_share_all_samples_between_them(shards: int, tmp_path: Path) -> None:
    needs = {"samples": put(tmp_path / "s", 7, x=0)}
    parts = [[n for n, _ in sample_feeds({"x": sent("samples", "x")}, needs, (i, shards))] for i in range(shards)]
    assert sorted(n for part in parts for n in part) == sample_files(tmp_path / "s")
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_each_input_is_read_from_whoever_has_it(tmp_path: Path) -> None:
    needs = {"samples": put(tmp_path / "s", 2, pitch=100), "activations:enc": put(tmp_path / "a", 2, features=5, y=7)}
    reads = {"f0": sent("samples", "pitch"), "h": sent("activations:enc", "features")}
    got = [(name, {k: float(v[0]) for k, v in feeds.items()}) for name, feeds in sample_feeds(reads, needs)]
    assert got == [("00000.npz", {"f0": 100.0, "h": 5.0}), ("00001.npz", {"f0": 101.0, "h": 6.0})]
