from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf

from autovoice.config.paths import files_of
from autovoice.errors import AudioError, CalibrationError
from autovoice.voice.calibration import recordings
from tests.builders import composed_graph

AUDIO = {"sample_rate": 22050, "hop": 256, "content_sample_rate": 16000}
INPUTS = (
    *("input_audio", "sample_rate", "f0_input", "voiced_mask"),
    *("speaker_embedding", "latent_input", "mask"),
)
SHIPPED = files_of("pkg://autovoice/voice/recordings/*.flac")
Sample = tuple[str, dict[str, np.ndarray]]


def drawn(files: Mapping[str, Path], low: int = 16, high: int = 1024, **more: Any) -> list[Sample]:
    given = {"inputs": dict.fromkeys(INPUTS), "frames": {"min": low, "max": high}, "samples": 8} | more
    return list(recordings(files=files, audio=AUDIO, **given))


def frames_of(found: list[Sample]) -> list[int]:
    return [s["mask"].shape[2] for _, s in found]


def as_samples(frames: int) -> int:
    """The profile of `samples` at so many frames, as conf/dims has it."""
    return math.ceil(frames * 256 * 16000 / 22050)


def same(a: list[Sample], b: list[Sample]) -> bool:
    return [n for n, _ in a] == [n for n, _ in b] and all(
        x.keys() == y.keys() and all(np.array_equal(x[k], y[k]) for k in x) for (_, x), (_, y) in zip(a, b, strict=True)
    )


@pytest.fixture
def files(tone: Callable[..., np.ndarray], recording: Callable[..., Path]) -> dict[str, Path]:
    """Ten seconds of one voice, and one second of another at another rate."""
    long = recording(tone(220, 10, 16000), 16000, "long.wav")
    short = recording(tone(330, 1, 44100), 44100, "short.flac", "PCM_16")
    return {"long.wav": long, "short.flac": short}


# -- lengths ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("low", "high"),
    [(16, 1024), (16, 128), (64, 700), (16, 17), (100, 101)],
    ids=["default", "streaming", "middle", "two_sizes", "two_larger_sizes"],
)
def test_lengths_are_spread_over_the_profile_and_inside_it(low: int, high: int, files: dict[str, Path]) -> None:
    found = drawn(files, low, high, seconds=(0.01, 60))
    counts = frames_of(found)
    assert len(found) == 8
    assert all(low <= n <= high for n in counts)
    assert counts == sorted(counts)
    longest = min(high, int(10 * 22050 / 256))
    assert (counts[0], counts[-1]) == (low + 1, longest)
    assert len(set(counts)) == 8 or high - low < 8
    sizes = [s["input_audio"].shape[1] for _, s in found]
    assert all(as_samples(low) <= n <= as_samples(high) for n in sizes)


@pytest.mark.parametrize("frames", [16, 100, 256, 333])
def test_a_profile_of_one_size_alone(frames: int, files: dict[str, Path]) -> None:
    """Whose samples have one size as well: one less would be outside of it."""
    for _, s in drawn(files, frames, frames):
        assert s["mask"].shape == (1, 1, frames)
        assert s["input_audio"].shape == (1, as_samples(frames))


def test_lengths_are_seconds_as_far_as_the_profile_reaches(files: dict[str, Path]) -> None:
    counts = frames_of(drawn(files, seconds=(0.5, 2)))
    assert (counts[0], counts[-1]) == (round(0.5 * 22050 / 256), round(2 * 22050 / 256))
    ratios = np.diff(np.log(counts))
    assert ratios.max() - ratios.min() < 0.05  # evenly on a logarithmic scale


def test_a_profile_above_what_the_recordings_reach(files: dict[str, Path]) -> None:
    """As long as there is any: whether that is inside the profile is checked after."""
    counts = frames_of(drawn({"short.flac": files["short.flac"]}, 16, 4096, seconds=(0.4, 60)))
    assert counts[0] == round(0.4 * 22050 / 256)
    assert counts[-1] == int(22050 / 256) == max(counts)
    assert frames_of(drawn({"short.flac": files["short.flac"]}, 200, 4096)) == [86] * 8


def test_a_long_excerpt_comes_from_a_recording_that_is_long_enough(files: dict[str, Path]) -> None:
    found = drawn(files, samples=24, seconds=(0.2, 8))
    names = {name.partition(" ")[0] for name, _ in found}
    assert names == {"long.wav", "short.flac"}
    for name, s in found:
        if s["mask"].shape[2] > 86:
            assert name.startswith("long.wav ")


def test_sizes_of_a_sample_agree(files: dict[str, Path]) -> None:
    for name, s in drawn(files):
        n, frames = s["input_audio"].shape[1], s["mask"].shape[2]
        assert frames == math.ceil(n * 22050 / (16000 * 256))
        assert {k: v.shape for k, v in s.items()} == {
            "input_audio": (1, n),
            "sample_rate": (1,),
            "f0_input": (1, frames),
            "voiced_mask": (1, frames),
            "speaker_embedding": (1, 256),
            "latent_input": (1, 192, frames),
            "mask": (1, 1, frames),
        }
        assert s["sample_rate"][0] == 16000
        assert s["mask"].all()
        assert all(np.isfinite(v).all() for v in s.values())
        assert name.endswith(f" {n / 16000:.2f} s")


def test_excerpts_are_cut_out_of_the_recording_unchanged(files: dict[str, Path]) -> None:
    whole, _ = sf.read(files["long.wav"], dtype="float32")
    starts = set()
    for _, s in drawn({"long.wav": files["long.wav"]}):
        piece = s["input_audio"][0]
        windows = np.lib.stride_tricks.sliding_window_view(whole, len(piece))
        candidates = np.flatnonzero(windows[:, 0] == piece[0])
        matches = [i for i in candidates if np.array_equal(windows[i], piece)]
        assert matches
        starts.add(matches[0])
    assert len(starts) > 1  # not always its beginning


# -- pitch, speakers, seeds ------------------------------------------------------------------------


def voiced(found: list[Sample]) -> np.ndarray:
    """The mean pitch of each sample in Hz."""
    return np.array([s["f0_input"][s["voiced_mask"]].mean() for _, s in found])


def test_transposition_is_in_semitones(files: dict[str, Path]) -> None:
    plain, octave = (drawn(files, transpose=(n, n)) for n in (0, 12))
    for (_, a), (_, b) in zip(plain, octave, strict=True):
        assert np.allclose(2 * a["f0_input"], b["f0_input"])
        assert np.array_equal(a["input_audio"], b["input_audio"])
        assert np.array_equal(a["voiced_mask"], b["voiced_mask"])
    tone = voiced(drawn({"long.wav": files["long.wav"]}, transpose=(0, 0)))
    assert np.abs(1200 * np.log2(tone / 220)).max() < 30


def test_each_sample_is_transposed_by_a_number_of_its_own(files: dict[str, Path]) -> None:
    found = drawn({"long.wav": files["long.wav"]}, transpose=(-6, 6), samples=24)
    semitones = 12 * np.log2(voiced(found) / 220)
    assert -6.5 < semitones.min() < -3
    assert 3 < semitones.max() < 6.5
    assert len(np.unique(semitones.round(3))) == 24


def test_speakers_are_taken_in_turn(files: dict[str, Path], tmp_path: Path) -> None:
    for i, name in enumerate(("a.npy", "b.npy")):
        np.save(tmp_path / name, np.full(256, i, np.float32))
    speakers = {name: tmp_path / name for name in ("b.npy", "a.npy")}
    found = drawn(files | speakers, samples=5)
    assert [float(s["speaker_embedding"][0, 0]) for _, s in found] == [0, 1, 0, 1, 0]
    assert not any(".npy" in name for name, _ in found)


def test_without_speakers_each_sample_has_one_of_its_own(files: dict[str, Path]) -> None:
    embeddings = np.concatenate([s["speaker_embedding"] for _, s in drawn(files)])
    assert np.abs(np.corrcoef(embeddings) - np.eye(8)).max() < 0.4
    assert 0.9 < embeddings.std() < 1.1


def test_the_same_seed_is_the_same_samples(files: dict[str, Path]) -> None:
    assert same(drawn(files, seed=3), drawn(dict(reversed(files.items())), seed=3))
    assert not same(drawn(files, seed=3), drawn(files, seed=4))


def test_latents_of_samples_differ(files: dict[str, Path]) -> None:
    starts = [s["latent_input"][0, :, 0] for _, s in drawn(files)]
    assert len({v.tobytes() for v in starts}) == 8


def test_only_what_is_wanted(files: dict[str, Path]) -> None:
    wanted = {"input_audio": {}, "f0_input": {}}
    found = drawn(files, inputs=wanted)
    assert all(s.keys() == wanted.keys() for _, s in found)
    assert np.array_equal(found[0][1]["f0_input"], drawn(files)[0][1]["f0_input"])


# -- mistakes --------------------------------------------------------------------------------------


@pytest.mark.parametrize("names", [[], ["a.npy"], ["notes.txt", "a.npz"]], ids=["nothing", "speaker", "others"])
def test_no_recording(names: list[str], tmp_path: Path) -> None:
    with pytest.raises(CalibrationError) as raised:
        drawn({n: tmp_path / n for n in names})
    assert raised.value.fact == f"no recording among {len(names)} files"
    assert raised.value.fix == "expected .aif, .aiff, .flac, .mp3, .ogg, .wav"


def test_suffixes_in_any_case(tone: Callable[..., np.ndarray], recording: Callable[..., Path]) -> None:
    path = recording(tone(220, 2, 16000), 16000, "LOUD.WAV")
    assert len(drawn({"LOUD.WAV": path}, samples=2)) == 2


def test_a_recording_that_cannot_be_read(files: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "bad.wav").write_text("no sound")
    with pytest.raises(AudioError, match=r"bad\.wav: cannot be read as audio"):
        drawn(files | {"bad.wav": tmp_path / "bad.wav"})


def test_a_speaker_that_does_not_fit(files: dict[str, Path], tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros(100, np.float32))
    with pytest.raises(AudioError, match=r"a\.npy: has the shape \[100\]"):
        drawn(files | {"a.npy": tmp_path / "a.npy"})


# -- what is shipped -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_recording_is_16_khz_mono_and_says_where_it_is_from(name: str) -> None:
    info = sf.info(SHIPPED[name])
    assert (info.samplerate, info.channels, info.format) == (16000, 1, "FLAC")
    data, _ = sf.read(SHIPPED[name])
    assert len(data) / 16000 > 1
    assert 0.05 < np.abs(data).max() <= 1
    text = (SHIPPED[name].parent / "PROVENANCE.txt").read_text()
    entry = re.search(rf"^{re.escape(name)}\n((?:  .+\n)+)", text, re.MULTILINE)
    assert entry
    assert re.findall(r"^  (\w+):", entry[1], re.MULTILINE) == ["Source", "Speaker", "Licence"]


def test_nothing_is_shipped_beside_them_without_its_provenance() -> None:
    (folder,) = {p.parent for p in SHIPPED.values()}
    text = (folder / "PROVENANCE.txt").read_text()
    others = {p.name for p in folder.iterdir() if p.suffix != ".txt"}
    assert others == set(SHIPPED) == set(re.findall(r"^(\S+\.flac)$", text, re.MULTILINE))


@pytest.mark.parametrize("dims", ["default", "streaming", "offline"])
def test_the_shipped_calibration_is_inside_every_shipped_profile(dims: str) -> None:
    graph = composed_graph("precision=int8", "calibration=speech", f"dims={dims}")
    calibration = next(c.calibration for c in graph.components if c.quantized)
    assert calibration.source is not None
    kwargs = dict(calibration.source.kwargs)
    found = list(recordings(files=dict(calibration.files), inputs=dict.fromkeys(INPUTS), **kwargs))
    assert len(found) == kwargs["samples"]
    profile = graph.dims["frames"]
    assert all(profile.min <= n <= profile.max for n in frames_of(found))
    samples = graph.dims["samples"]
    assert all(samples.min <= s["input_audio"].shape[1] <= samples.max for _, s in found)
    assert {name.partition(" ")[0] for name, _ in found} == set(SHIPPED)
