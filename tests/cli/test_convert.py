"""`task=convert` with the shipped pipeline, built for real; the weights are random, the lengths are not."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import soundfile as sf

from tests.docs.reader import SMALL

if TYPE_CHECKING:
    from tests.conftest import Project

FOLDER = "outputs/voice_conversion/onnxruntime-fp32"


@pytest.fixture(scope="module")
def voice(toy_project: Project) -> Project:
    """The shipped pipeline at short blocks, its networks narrow, converting once: the build comes first by itself."""
    project = replace(toy_project, given=())
    tone = 0.3 * np.sin(2 * np.pi * 220 * np.arange(22050) / 22050)
    sf.write(project.root / "in.wav", tone, 22050)
    np.save(project.root / "speaker.npy", np.linspace(-1, 1, 256, dtype=np.float32)[np.newaxis])
    given = ("input=in.wav", "speaker=speaker.npy", "output=first.wav", "seed=1")
    out = project.ok("task=convert", *SMALL, *given)
    assert "voice_conversion on onnxruntime, fp32: 32 steps, 32 to run" in out
    (folder,) = (project.outputs / "voice_conversion").iterdir()
    folder.rename(project.root / "built")
    return project


def convert(project: Project, *overrides: str) -> list[str]:
    return project.ok("task=convert", "folder=built", "input=in.wav", "speaker=speaker.npy", *overrides).splitlines()


def refused(project: Project, *overrides: str) -> str:
    (project.root / "refused.wav").unlink(missing_ok=True)
    err = project.fails("task=convert", "folder=built", "speaker=zeros", "output=refused.wav", *overrides)
    assert not (project.root / "refused.wav").exists()
    assert len(err.splitlines()) == 2
    return err


def write(project: Project, samples: np.ndarray, rate: int = 22050) -> str:
    sf.write(project.root / "other.wav", samples, rate, subtype="FLOAT")
    return "input=other.wav"


def test_the_first_conversion_has_built(voice: Project) -> None:
    info = sf.info(voice.root / "first.wav")
    assert (info.frames, info.samplerate, info.channels) == (44100, 44100, 1)


@pytest.mark.parametrize("rate", [22050, 44100, 48000])
def test_a_second_stays_a_second_at_any_rate(voice: Project, rate: int) -> None:
    said = convert(voice, "output=out.wav", "overwrite=true", f"output_sample_rate={rate}")
    assert re.match(rf"out\.wav: 1\.000 s at {rate} Hz from 1\.000 s, 87 frames, \d+% voiced, peak \d+\.\d\d", said[0])
    assert re.match(r"  read \d+\.\d s, resample .*, pitch .*, pipeline .*, write ", said[1])
    samples, got = sf.read(voice.root / "out.wav")
    assert (len(samples), got) == (rate, rate)
    assert np.isfinite(samples).all()
    assert np.abs(samples).max() > 0


def test_the_seed_and_the_voice_are_what_changes_it(voice: Project) -> None:
    for name, overrides in {
        "a": ["seed=1"],
        "b": ["seed=1"],
        "c": ["seed=2"],
        "d": ["seed=1", "speaker=zeros"],
    }.items():
        convert(voice, f"output={name}.wav", *overrides)
    a, b, c, d = (sf.read(voice.root / f"{name}.wav")[0] for name in "abcd")
    assert np.array_equal(a, b)
    assert np.array_equal(a, sf.read(voice.root / "first.wav")[0])
    assert not np.array_equal(a, c)
    assert not np.array_equal(a, d)


def test_ten_minutes_are_refused_naming_the_longest(voice: Project) -> None:
    err = refused(voice, write(voice, np.zeros(600 * 8000, np.float32), 8000))
    fact, fix = err.splitlines()
    assert fact == "error: other.wav: is 600.00 s long, the longest possible is 1.48 s"
    assert fix == "  cut it, or build for longer ones with dims.frames.max=51680"


def test_an_empty_recording(voice: Project) -> None:
    err = refused(voice, write(voice, np.zeros(0, np.float32)))
    assert err == "error: other.wav: the recording is empty (0 samples)\n  give one that holds sound\n"


def test_one_sample(voice: Project) -> None:
    fact, fix = refused(voice, write(voice, np.ones(1, np.float32))).splitlines()
    assert fact == "error: other.wav: is 0.000 s long, the shortest possible is 0.19 s"
    assert fix == "  lengthen it with silence, or give a longer recording"


def test_not_a_number(voice: Project) -> None:
    samples = np.zeros(22050, np.float32)
    samples[[7, 9]] = np.nan, np.inf
    fact, fix = refused(voice, write(voice, samples)).splitlines()
    assert fact == "error: other.wav: 2 of 22050 samples are NaN or infinite, first at 7"
    assert fix == "  the program that made these samples failed there; make them again"


def test_a_file_that_is_no_recording(voice: Project) -> None:
    (voice.root / "other.wav").write_text("hello")
    err = refused(voice, "input=other.wav")
    assert err.startswith(
        "error: other.wav: cannot be read as audio (Format not recognised)\n  possible are wav, flac, "
    )


def test_a_recording_that_is_not_there(voice: Project) -> None:
    looked = voice.root / "absent.wav"
    assert refused(voice, "input=absent.wav") == f"error: absent.wav: no such file\n  looked for {looked}\n"


def test_a_pipeline_that_is_not_of_voices(voice: Project, master: Project) -> None:
    err = refused(voice, "input=in.wav", f"folder={master.folder}")
    assert err.startswith(
        "error: task=convert needs a pipeline with an `audio` contract, and this one's has no usable "
    )


@pytest.mark.parametrize(
    ("given", "fact"),
    [
        ({"input": "absent.wav"}, "absent.wav: no such file"),
        ({"speaker": "absent.npy"}, "speaker=absent.npy: there is no such file"),
        ({"output": "in.wav/out.wav"}, "output: in.wav/out.wav cannot be written: a file stands where"),
    ],
    ids=["input", "speaker", "output"],
)
def test_files_are_looked_at_before_anything_is_built(voice: Project, given: dict[str, str], fact: str) -> None:
    given = {"input": "in.wav", "speaker": "zeros", "output": "never.wav"} | given
    result = voice.run("task=convert", "dims=streaming", *(f"{k}={v}" for k, v in given.items()))
    assert (result.code, result.out) == (1, "")
    assert result.err.startswith(f"error: {fact}")
    assert len(result.err.splitlines()) == 2


@pytest.mark.parametrize("missing", ["input", "output"])
def test_what_must_be_given(voice: Project, missing: str) -> None:
    given = {"input": "in.wav", "output": "never.wav", "speaker": "zeros"}
    err = voice.fails("task=convert", *(f"{k}={v}" for k, v in given.items() if k != missing))
    assert err == (
        f"error: task=convert needs {missing}=\n  autovoice task=convert input=in.wav speaker=spk.npy output=out.wav\n"
    )


def test_nothing_is_left_beside_the_recordings(voice: Project) -> None:
    assert [p.name for p in Path(voice.root).glob(".*")] == []
