from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf

from autovoice.errors import AudioError, FeedError
from autovoice.voice.convert import ConvertRequest, convert

Tone = Callable[..., np.ndarray]
Recording = Callable[..., Path]
Pipeline = Callable[..., Any]


@pytest.fixture
def request_(tmp_path: Path, recording: Recording, tone: Tone) -> ConvertRequest:
    path = recording(tone(220, 1, 44100), 44100)
    return ConvertRequest(path, tmp_path / "out.wav", speaker="zeros", overwrite=True)


def refusal(pipe: Any, request: ConvertRequest) -> str:
    """The message; whatever is refused has neither run nor left a file."""
    before = sorted(os.listdir(request.output.parent))
    with pytest.raises(AudioError) as caught:
        convert(pipe, request)
    assert sorted(os.listdir(request.output.parent)) == before
    assert len(str(caught.value).splitlines()) == 2
    return str(caught.value)


def refused_before_running(pipe: Any, request: ConvertRequest) -> str:
    message = refusal(pipe, request)
    assert pipe.fed == []
    return message


@pytest.mark.parametrize("output_rate", [22050, 44100, 48000])
@pytest.mark.parametrize("rate", [8000, 16000, 22050, 44100, 48000])
def test_the_duration_does_not_depend_on_the_rate(
    pipeline: Pipeline,
    request_: ConvertRequest,
    recording: Recording,
    tone: Tone,
    rate: int,
    output_rate: int,
) -> None:
    pipe = pipeline()
    path = recording(tone(220, 1, rate), rate, "other.wav")
    result = convert(pipe, replace(request_, input=path, output_sample_rate=output_rate))
    info = sf.info(result.output)
    assert (info.samplerate, info.frames, info.subtype) == (output_rate, output_rate, "PCM_16")
    assert (result.frames, result.seconds_in, result.seconds_out) == (87, 1.0, 1.0)
    assert pipe.fed[0]["input_audio"].shape == (1, 16000)


def test_the_feeds(pipeline: Pipeline, request_: ConvertRequest) -> None:
    pipe = pipeline()
    convert(pipe, request_)
    assert {n: (x.shape, str(x.dtype)) for n, x in pipe.fed[0].items()} == {
        "input_audio": ((1, 16000), "float32"),
        "sample_rate": ((1,), "int32"),
        "f0_input": ((1, 87), "float32"),
        "voiced_mask": ((1, 87), "bool"),
        "speaker_embedding": ((1, 256), "float32"),
        "latent_input": ((1, 192, 87), "float32"),
        "mask": ((1, 1, 87), "float32"),
    }
    assert pipe.fed[0]["sample_rate"].tolist() == [16000]
    assert pipe.fed[0]["mask"].all()


def test_the_result(pipeline: Pipeline, request_: ConvertRequest) -> None:
    result = convert(pipeline(), request_)
    assert result.output == request_.output
    assert result.sample_rate == 44100
    assert result.peak == pytest.approx(0.5, abs=0.05)
    assert not result.scaled
    assert result.voiced_share > 0.95
    assert list(result.timings) == ["read", "resample", "pitch", "pipeline", "write"]
    assert result.realtime_factor == pytest.approx(1 / sum(result.timings.values()))


def test_only_what_the_pipeline_asks_for_is_fed(pipeline: Pipeline, request_: ConvertRequest) -> None:
    pipe = pipeline(input_names=("f0_input", "mask"))
    convert(pipe, replace(request_, speaker=None))
    assert list(pipe.fed[0]) == ["f0_input", "mask"]


def test_the_speaker_is_fed(pipeline: Pipeline, request_: ConvertRequest, tmp_path: Path) -> None:
    np.save(tmp_path / "spk.npy", np.arange(256, dtype=np.float32))
    pipe = pipeline()
    convert(pipe, replace(request_, speaker=tmp_path / "spk.npy"))
    np.testing.assert_array_equal(pipe.fed[0]["speaker_embedding"], np.arange(256)[np.newaxis])


def test_an_octave_doubles_the_pitch(pipeline: Pipeline, request_: ConvertRequest) -> None:
    pipe = pipeline()
    for semitones in (0, 12, -12):
        convert(pipe, replace(request_, transpose=semitones))
    plain, up, down = (feeds["f0_input"] for feeds in pipe.fed)
    assert np.median(plain) == pytest.approx(220, rel=0.01)
    np.testing.assert_allclose(up, 2 * plain, rtol=1e-6)
    np.testing.assert_allclose(down, plain / 2, rtol=1e-6)


def test_the_pitch_fed_has_no_gaps(
    pipeline: Pipeline, request_: ConvertRequest, recording: Recording, tone: Tone
) -> None:
    pipe = pipeline()
    x = np.concatenate([tone(220, 0.5, 44100), np.zeros(22050, np.float32), tone(330, 0.5, 44100)])
    convert(pipe, replace(request_, input=recording(x, 44100, "gap.wav")))
    feeds = pipe.fed[0]
    assert not feeds["voiced_mask"].all()
    assert feeds["f0_input"].min() > 200


def test_silence_is_converted(pipeline: Pipeline, request_: ConvertRequest, recording: Recording) -> None:
    pipe = pipeline()
    path = recording(np.zeros(44100, np.float32), 44100, "silence.wav")
    assert convert(pipe, replace(request_, input=path)).voiced_share == 0
    assert not pipe.fed[0]["voiced_mask"].any()
    assert not pipe.fed[0]["f0_input"].any()


def test_the_seed_decides_the_latent_and_the_temperature_scales_it(
    pipeline: Pipeline, request_: ConvertRequest
) -> None:
    pipe = pipeline()
    for change in ({}, {}, {"seed": 1}, {"sampling_temperature": 0.5}, {"sampling_temperature": 0}):
        convert(pipe, replace(request_, **change))
    first, again, other, cooler, mean = (feeds["latent_input"] for feeds in pipe.fed)
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    np.testing.assert_array_equal(cooler, first * np.float32(0.5))
    assert not mean.any()
    assert first.std() == pytest.approx(1, abs=0.05)


def test_stereo(pipeline: Pipeline, request_: ConvertRequest, recording: Recording, tone: Tone) -> None:
    pipe = pipeline()
    x = tone(220, 1, 16000)
    path = recording(np.stack([x, np.zeros_like(x)], axis=1), 16000, "stereo.wav")
    convert(pipe, replace(request_, input=path))
    np.testing.assert_allclose(pipe.fed[0]["input_audio"][0], x / 2, atol=1e-7)


def test_a_loud_voice_is_scaled_and_reported(pipeline: Pipeline, request_: ConvertRequest) -> None:
    result = convert(pipeline(respond=lambda n: np.full(n, 3, np.float32)), request_)
    assert result.scaled
    assert result.peak == pytest.approx(3, rel=0.2)
    assert np.max(np.abs(sf.read(result.output)[0])) <= 1


@pytest.mark.parametrize(
    ("change", "fact"),
    [
        ({"sampling_temperature": -0.1}, "sampling_temperature=-0.1"),
        ({"sampling_temperature": float("nan")}, "sampling_temperature=nan"),
        ({"output_sample_rate": 0}, "output_sample_rate=0 Hz is out of range"),
        ({"output_sample_rate": -1}, "output_sample_rate=-1"),
        ({"output_sample_rate": 10**7}, "give 4000 to 192000"),
        ({"f0_min": 500.0, "f0_max": 400.0}, "no band of pitch"),
        ({"transpose": float("inf")}, "transpose=inf"),
        ({"transpose": 100.0}, "an octave is 12"),
        ({"seed": -1}, "seed=-1"),
        ({"speaker": None}, "no speaker is given"),
        ({"speaker": "absent.npy"}, "speaker=absent.npy: there is no such file"),
        ({"input": Path("absent.wav")}, "absent.wav: no such file"),
    ],
)
def test_refused_requests(pipeline: Pipeline, request_: ConvertRequest, change: dict[str, Any], fact: str) -> None:
    assert fact in refused_before_running(pipeline(), replace(request_, **change))


@pytest.mark.parametrize(("name", "fact"), [("out.xyz", "suffix '.xyz'"), ("in.wav", "is what input reads")])
def test_refused_outputs(pipeline: Pipeline, request_: ConvertRequest, tmp_path: Path, name: str, fact: str) -> None:
    assert fact in refused_before_running(pipeline(), replace(request_, output=tmp_path / name))


def test_a_missing_folder(pipeline: Pipeline, request_: ConvertRequest, tmp_path: Path) -> None:
    pipe = pipeline()
    with pytest.raises(AudioError, match="there is no folder"):
        convert(pipe, replace(request_, output=tmp_path / "absent" / "out.wav"))
    assert pipe.fed == []


@pytest.mark.parametrize(
    ("samples", "fact"),
    [
        (np.zeros(0, np.float32), "empty"),
        (np.zeros(1, np.float32), "the shortest possible is 0.25 s"),
        (np.full(44100, np.nan, np.float32), "NaN or infinite"),
    ],
    ids=["empty", "one sample", "nan"],
)
def test_refused_recordings(
    pipeline: Pipeline, request_: ConvertRequest, recording: Recording, samples: np.ndarray, fact: str
) -> None:
    path = recording(samples, 44100, "bad.wav")
    assert fact in refused_before_running(pipeline(), replace(request_, input=path))


def test_ten_minutes_are_refused_undecoded(
    pipeline: Pipeline, request_: ConvertRequest, recording: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = recording(np.zeros(600 * 8000, np.int16), 8000, "long.wav", "PCM_U8")
    monkeypatch.setattr("autovoice.voice.convert.read_audio", lambda _: pytest.fail("was decoded"))
    message = refused_before_running(pipeline(), replace(request_, input=path))
    assert "is 600.00 s long, the longest possible is 11.88 s" in message
    assert "dims.frames.max=51680 dims.samples.max=9600000" in message


def test_no_contract(pipeline: Pipeline, request_: ConvertRequest) -> None:
    message = refused_before_running(pipeline(contract={}), request_)
    assert "task=convert needs a pipeline with an `audio` contract" in message
    assert "task=run feeds=" in message


def test_an_unknown_input(pipeline: Pipeline, request_: ConvertRequest) -> None:
    message = refused_before_running(pipeline(input_names=("mask", "style_tokens")), request_)
    assert "cannot make the pipeline's input style_tokens" in message


def test_no_vocoder(pipeline: Pipeline, request_: ConvertRequest) -> None:
    message = refused_before_running(pipeline(output_names=("mel_output",)), request_)
    assert "ends at mel_output: the vocoder is missing" in message
    assert "task=run" in message


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_voice_that_is_not_finite(pipeline: Pipeline, request_: ConvertRequest, value: float) -> None:
    def overflow(n: int) -> np.ndarray:
        return np.where(np.arange(n) == 5, value, 0).astype(np.float16)

    message = refusal(pipeline(respond=overflow), request_)
    assert "NaN or infinite values in 1 of 22272 samples" in message
    assert "precision=fp32" in message


def test_a_voice_of_another_length(pipeline: Pipeline, request_: ConvertRequest) -> None:
    pipe = pipeline(respond=lambda n: np.zeros(2 * n, np.float32), shape=lambda n: (1, 1, 2 * n))
    assert "of shape [1, 1, 44544], expected is [1, 1, 22272]" in refusal(pipe, request_)


def test_an_error_of_the_pipeline_passes_through(pipeline: Pipeline, request_: ConvertRequest) -> None:
    def fail(n: int) -> np.ndarray:
        raise FeedError("frames=87 is no bucket", "use one of 64, 128")

    with pytest.raises(FeedError, match="no bucket"):
        convert(pipeline(respond=fail), request_)
    assert not request_.output.exists()


def test_neither_torch_nor_hydra_is_imported() -> None:
    code = "import sys, autovoice.voice.convert as _; print({'torch', 'hydra', 'swift_f0'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"
