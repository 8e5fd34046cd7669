from __future__ import annotations

import errno
import os
import re
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from autovoice.errors import AudioError
from autovoice.store.output import Output
from autovoice.voice.audio import probe_audio, read_audio, resample
from autovoice.voice.writing import write_audio

Recording = Callable[..., Path]


def refusal(path: Path) -> str:
    with pytest.raises(AudioError) as caught:
        read_audio(path)
    message = str(caught.value)
    assert str(path) in message
    assert len(message.splitlines()) == 2
    return message


@pytest.mark.parametrize("rate", [8000, 16000, 22050, 44100, 48000])
def test_any_rate_is_read_as_it_is(recording: Recording, tone: Callable[..., np.ndarray], rate: int) -> None:
    x = tone(220, 0.5, rate)
    audio = read_audio(recording(x, rate))
    assert (audio.sample_rate, audio.channels, audio.samples.dtype) == (rate, 1, np.float32)
    np.testing.assert_array_equal(audio.samples, x)


def test_stereo_becomes_the_mean_of_its_channels(recording: Recording) -> None:
    left, right = np.full(100, 0.5, np.float32), np.full(100, -0.25, np.float32)
    audio = read_audio(recording(np.stack([left, right], axis=1), 44100))
    assert audio.channels == 2
    np.testing.assert_allclose(audio.samples, 0.125)


@pytest.mark.parametrize("name", ["in.flac", "in.ogg", "in.mp3", "in.aiff"])
def test_other_formats_are_read(tmp_path: Path, tone: Callable[..., np.ndarray], name: str) -> None:
    sf.write(tmp_path / name, tone(220, 1, 44100), 44100)
    assert read_audio(tmp_path / name).seconds == pytest.approx(1, abs=0.1)


def test_the_header_is_read_without_the_samples(recording: Recording) -> None:
    header = probe_audio(recording(np.zeros((4000, 2), np.float32), 8000))
    assert (header.samples, header.sample_rate, header.channels, header.seconds) == (4000, 8000, 2, 0.5)


def test_missing(tmp_path: Path) -> None:
    assert "no such file" in refusal(tmp_path / "absent.wav")


def test_folder(tmp_path: Path) -> None:
    assert "is not a file" in refusal(tmp_path)


@pytest.mark.parametrize("name", ["in.wav", "in.mp3", "in.raw", "in"])
def test_not_audio_names_what_is_possible(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"these bytes are a letter, not a song" * 9)
    message = refusal(tmp_path / name)
    assert "cannot be read as audio" in message
    assert "wav, flac, ogg, mp3" in message


def test_no_bytes(tmp_path: Path) -> None:
    (tmp_path / "in.wav").touch()
    assert "the file is empty" in refusal(tmp_path / "in.wav")


def test_no_samples(recording: Recording) -> None:
    assert "empty (0 samples)" in refusal(recording(np.zeros(0, np.float32), 44100))


@pytest.mark.parametrize("rate", [0, 2**32 - 1])
def test_a_rate_that_cannot_be(recording: Recording, rate: int) -> None:
    path = recording(np.zeros(100, np.float32), 44100, subtype="PCM_16")
    content = bytearray(path.read_bytes())
    content[24:28] = struct.pack("<I", rate)  # the sample rate of a RIFF `fmt ` chunk
    path.write_bytes(content)
    assert "no usable sample rate" in refusal(path)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("channels", [1, 2])
def test_values_that_are_not_finite(recording: Recording, value: float, channels: int) -> None:
    x = np.zeros((100, channels), np.float32)
    x[7, -1] = value
    assert f"1 of {100 * channels} samples are NaN or infinite, first at 7" in refusal(recording(x, 44100))


def test_more_than_two_channels(recording: Recording) -> None:
    assert "has 6 channels" in refusal(recording(np.zeros((10, 6), np.float32), 44100))


def test_a_stream_of_unknown_length(recording: Recording) -> None:
    path = recording(np.zeros(4096, np.float32), 44100, "in.flac", "PCM_16")
    content = bytearray(path.read_bytes())
    content[21] &= 0xF0  # the 36 bits of a FLAC STREAMINFO that count the samples, 0 for unknown
    content[22:26] = bytes(4)
    path.write_bytes(content)
    assert "does not state the length" in refusal(path)


@pytest.mark.parametrize(("name", "fact"), [("in.flac", "cannot be read"), ("in.mp3", "is cut short")])
def test_cut_short(tmp_path: Path, tone: Callable[..., np.ndarray], name: str, fact: str) -> None:
    path = tmp_path / name
    sf.write(path, tone(220, 2, 44100), 44100)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert fact in refusal(path)


@pytest.mark.parametrize("name", ["in.wav", "in.aiff"])
def test_a_recording_that_its_library_would_cut_to_what_is_there(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    sf.write(path, np.full(16000, 0.5, np.float32), 8000)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert re.search(r"is cut short, (0\.99|1\.00) s of the (1\.99|2\.00|2\.01) s that it declares", refusal(path))


def test_a_recording_from_a_pipe_knows_no_length(recording: Recording) -> None:
    path = recording(np.full(8000, 0.5, np.float32), 8000, subtype="PCM_16")
    content = bytearray(path.read_bytes())
    content[4:8] = content[40:44] = b"\xff\xff\xff\xff"  # as ffmpeg writes into a pipe
    path.write_bytes(content)
    assert read_audio(path).seconds == 1


@pytest.mark.parametrize(("name", "subtype"), [("in.wav", "GSM610"), ("in.aiff", "GSM610"), ("in.wav", "NMS_ADPCM_16")])
def test_formats_without_seeking(tmp_path: Path, tone: Callable[..., np.ndarray], name: str, subtype: str) -> None:
    sf.write(tmp_path / name, tone(220, 2, 8000), 8000, subtype=subtype)
    audio = read_audio(tmp_path / name)
    assert audio.seconds == pytest.approx(2, abs=0.05)
    assert np.abs(audio.samples).max() == pytest.approx(0.5, rel=0.2)


def test_gsm_cut_short(tmp_path: Path, tone: Callable[..., np.ndarray]) -> None:
    sf.write(tmp_path / "in.wav", tone(220, 2, 8000), 8000, subtype="GSM610")
    content = (tmp_path / "in.wav").read_bytes()
    (tmp_path / "in.wav").write_bytes(content[: len(content) // 2])
    assert "is cut short" in refusal(tmp_path / "in.wav")


@pytest.mark.parametrize("rate", [1, 999, 1_000_001, 2**31 - 1])
def test_a_rate_that_no_recording_has(recording: Recording, rate: int) -> None:
    """At 1 Hz a small file would become a huge one."""
    assert f"the header has no usable sample rate, {rate} Hz" in refusal(recording(np.zeros(100, np.float32), rate))


@pytest.mark.parametrize("name", ["x" * 300 + ".wav", "a\0b.wav", "a\ud800.wav"])
def test_a_name_that_no_file_has(name: str) -> None:
    for read in (read_audio, probe_audio):
        with pytest.raises(AudioError) as caught:
            read(Path(name))
        assert len(str(caught.value).splitlines()) == 2


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "in.wav")
    assert "is not a file" in refusal(tmp_path / "in.wav")


@pytest.mark.parametrize(
    "error",
    [TypeError("x"), ValueError("x"), RuntimeError("x"), OSError("x"), OverflowError("x"), sf.SoundFileError("x")],
    ids=lambda e: type(e).__name__,
)
def test_whatever_the_library_raises(recording: Recording, error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    path = recording(np.zeros(100, np.float32), 8000)

    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(sf.SoundFile, "read", fail)
    assert "cannot be read as audio (x)" in refusal(path)


def test_a_length_that_no_memory_holds(recording: Recording, monkeypatch: pytest.MonkeyPatch) -> None:
    path = recording(np.zeros(8000 * 60, np.float32), 8000)
    monkeypatch.setattr("autovoice.voice.audio.available", lambda: 1 << 20)
    assert "declares 0.0 h, and there is no memory for as much" in refusal(path)


@pytest.mark.parametrize("error", [ValueError("x"), RuntimeError("x")])
def test_what_cannot_be_resampled(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("soxr.resample", fail)
    with pytest.raises(AudioError, match="10 samples cannot be resampled from 8000 to 16000 Hz: x"):
        resample(np.zeros(10, np.float32), 8000, 16000)


@pytest.mark.parametrize("to", [8000, 16000, 22050, 44100, 48000])
@pytest.mark.parametrize("rate", [8000, 16000, 22050, 44100, 48000])
def test_resampling_has_the_exact_length(rate: int, to: int) -> None:
    for n in (1, 2, 3, 100, 441, 12345):
        y = resample(np.full(n, 0.1, np.float32), rate, to)
        assert len(y) == (2 * n * to + rate) // (2 * rate)
        assert y.dtype == np.float32


def test_resampling_keeps_the_signal(tone: Callable[..., np.ndarray]) -> None:
    got, expected = resample(tone(220, 1, 44100), 44100, 16000), tone(220, 1, 16000)
    middle = slice(1000, -1000)
    assert np.max(np.abs(got[middle] / got[middle].max() - expected[middle] / expected[middle].max())) < 2e-3


def test_equal_rates_are_the_identity() -> None:
    x = np.zeros(10, np.float32)
    assert resample(x, 16000, 16000) is x


@pytest.mark.parametrize(("name", "kind"), [("out.wav", "WAV"), ("out.flac", "FLAC"), ("OUT.WAV", "WAV")])
def test_written_by_suffix(tmp_path: Path, tone: Callable[..., np.ndarray], name: str, kind: str) -> None:
    x = tone(220, 0.2, 44100)
    written = write_audio(Output(tmp_path / name), x, 44100)
    info = sf.info(tmp_path / name)
    assert (info.format, info.subtype, info.samplerate, info.frames) == (kind, "PCM_16", 44100, len(x))
    assert (written.peak, written.scaled) == (pytest.approx(0.5), False)
    assert np.max(np.abs(sf.read(tmp_path / name)[0] - x)) < 1e-4
    assert os.listdir(tmp_path) == [name]


def test_another_encoding(tmp_path: Path) -> None:
    write_audio(Output(tmp_path / "out.wav"), np.zeros(10, np.float32), 8000, subtype="FLOAT")
    assert sf.info(tmp_path / "out.wav").subtype == "FLOAT"


def test_a_peak_above_one_is_scaled_and_reported(tmp_path: Path) -> None:
    written = write_audio(Output(tmp_path / "out.wav"), np.array([0.5, -2.0, 1.0], np.float32), 8000)
    assert (written.peak, written.scaled) == (2.0, True)
    np.testing.assert_allclose(sf.read(tmp_path / "out.wav")[0], [0.25, -1.0, 0.5], atol=1e-4)


def test_a_peak_of_one_is_not_scaled(tmp_path: Path) -> None:
    assert not write_audio(Output(tmp_path / "out.wav"), np.array([1.0, -1.0], np.float32), 8000).scaled


@pytest.mark.parametrize(
    ("name", "subtype", "fact"),
    [
        ("absent/out.wav", "PCM_16", "there is no folder"),
        ("out.m4a", "PCM_16", "use one of .flac, .wav"),
        ("out", "PCM_16", "no format is known for the suffix ''"),
        ("out.flac", "FLOAT", "FLAC has no encoding FLOAT"),
        ("folder.wav", "PCM_16", "is a folder"),
    ],
)
def test_refused_outputs(tmp_path: Path, name: str, subtype: str, fact: str) -> None:
    (tmp_path / "folder.wav").mkdir()
    with pytest.raises(AudioError, match=fact):
        write_audio(Output(tmp_path / name), np.zeros(10, np.float32), 8000, subtype)
    assert os.listdir(tmp_path) == ["folder.wav"]


def test_a_folder_that_is_not_writable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(AudioError, match="is not writable"):
        write_audio(Output(tmp_path / "out.wav"), np.zeros(10, np.float32), 8000)


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = tmp_path / "out.wav"
    old.write_bytes(b"old")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(AudioError, match="the disk is full"):
        write_audio(Output(old, overwrite=True), np.zeros(1000, np.float32), 8000)
    assert os.listdir(tmp_path) == ["out.wav"]
    assert old.read_bytes() == b"old"


def test_the_file_appears_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    renamed = []
    replace = os.replace

    def record(source: Path, target: Path) -> None:
        renamed.append((sf.info(source).frames, source.parent, target))
        replace(source, target)

    monkeypatch.setattr(os, "replace", record)
    write_audio(Output(tmp_path / "out.wav", overwrite=True), np.zeros(1000, np.float32), 8000)
    assert renamed == [(1000, tmp_path, tmp_path / "out.wav")]


def test_nothing_is_written_of_values_that_are_not_finite(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="NaN or infinite"):
        write_audio(Output(tmp_path / "out.wav"), np.array([0, np.nan], np.float32), 8000)
    assert os.listdir(tmp_path) == []
