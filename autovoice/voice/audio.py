"""Recordings as mono float32 arrays: read, resample, write. Every error names the file."""

from __future__ import annotations

import io
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile as sf
from numpy.typing import NDArray

from autovoice.errors import AudioError, choices
from autovoice.voice.clock import output_length

Samples = NDArray[np.float32]

READABLE = "wav, flac, ogg, mp3, aiff and others that libsndfile decodes"
CONVERT_HINT = "convert it first, for example `ffmpeg -i recording.m4a recording.wav`"
WRITABLE = {".wav": "WAV", ".flac": "FLAC"}

# A lossy encoder may declare padding that its decoder does not deliver; a file cut short lacks far more.
DECLARED_TOLERANCE_S = 0.1
# libsndfile's SF_COUNT_MAX: what it reports for a stream that was encoded before its length was known.
UNKNOWN_LENGTH = 2**63 - 1


@dataclass(frozen=True)
class Header:
    """What a file says of itself: `samples` per channel, `sample_rate` in Hz, `channels`."""

    samples: int
    sample_rate: int
    channels: int

    @property
    def seconds(self) -> float:
        return self.samples / self.sample_rate


@dataclass(frozen=True)
class Audio:
    """A recording: `samples` float32 [n] mono, `sample_rate` in Hz, `channels` that the source had."""

    samples: Samples
    sample_rate: int
    channels: int = 1

    @property
    def seconds(self) -> float:
        return len(self.samples) / self.sample_rate


@dataclass(frozen=True)
class Written:
    """What became of a signal on its way to a file: its `peak` before scaling, and whether it was scaled."""

    peak: float
    scaled: bool


def probe_audio(path: Path) -> Header:
    """Read the header alone, so that a recording can be refused before it is decoded.

    Raises AudioError for a file that is missing, not audio, empty, without a sample rate or a length, or of
    more than two channels.
    """
    with _opened(path) as file:
        return _header(path, file)


def read_audio(path: Path) -> Audio:
    """Read a mono or stereo recording at its own rate; stereo becomes the mean of its channels.

    Raises AudioError for whatever `probe_audio` refuses, for a file that ends before its header says, and for
    samples that are NaN or infinite.
    """
    with _opened(path) as file:
        header = _header(path, file)
        data = file.read(dtype="float32", always_2d=True)
    if header.samples - len(data) > DECLARED_TOLERANCE_S * header.sample_rate:
        decoded = len(data) / header.sample_rate
        raise AudioError(
            f"{path}: is cut short, {decoded:.2f} s of the {header.seconds:.2f} s that it declares",
            "copy or export it again",
        )
    _refuse_empty(path, len(data))
    _refuse_non_finite(path, data)
    return Audio(data.mean(axis=1, dtype=np.float32), header.sample_rate, header.channels)


def resample(x: Samples, from_rate: int, to_rate: int) -> Samples:
    """Resample `x` float32 [n] from `from_rate` to `to_rate` Hz by soxr HQ (linear phase, 20 bits).

    The result has exactly `output_length(n, from_rate, to_rate)` samples; soxr's own count differs from it by
    a sample at most, which is cut off or filled with silence. Equal rates return `x` itself.
    """
    if from_rate == to_rate:
        return x
    import soxr

    wanted = output_length(len(x), from_rate, to_rate)
    y = np.asarray(soxr.resample(x, from_rate, to_rate, quality="HQ"), dtype=np.float32)[:wanted]
    return np.pad(y, (0, wanted - len(y)))


def check_writable(path: Path, subtype: str = "PCM_16") -> None:
    """Raise AudioError unless a recording could be written to `path`, judging by its suffix and folder."""
    if path.suffix.lower() not in WRITABLE:
        raise AudioError(
            f"{path}: no format is known for the suffix '{path.suffix}'", f"use one of {choices(WRITABLE)}"
        )
    kind = WRITABLE[path.suffix.lower()]
    if not sf.check_format(kind, subtype):
        possible = choices(sf.available_subtypes(kind))
        raise AudioError(f"{path}: {kind} has no encoding {subtype}", f"use one of {possible}")
    if path.is_dir():
        raise AudioError(f"{path}: is a folder", f"name a file in it, for example {path / 'converted.wav'}")
    if not path.parent.is_dir():
        raise AudioError(f"{path}: the folder {path.parent} does not exist", f"create it with `mkdir -p {path.parent}`")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise AudioError(
            f"{path}: the folder {path.parent} is not writable",
            "choose another folder, or change its permissions",
        )


def write_audio(path: Path, x: Samples, rate: int, subtype: str = "PCM_16") -> Written:
    """Write mono `x` float32 [n] at `rate` Hz as wav or flac, by the suffix of `path`.

    A signal that exceeds ±1 is scaled to a peak of 1 instead of being clipped; the result says so, for the
    caller to report. The file appears whole or not at all. Raises AudioError for an unknown suffix or
    encoding, a folder that is missing or not writable, samples that are not finite, and a full disk.
    """
    check_writable(path, subtype)
    _refuse_non_finite(path, x)
    peak = float(np.max(np.abs(x), initial=0.0))
    scaled = peak > 1.0
    _replace(path, _encode(path, x / np.float32(peak) if scaled else x, rate, subtype))
    return Written(peak, scaled)


@contextmanager
def _opened(path: Path) -> Iterator[sf.SoundFile]:
    """Open for reading; an error of the library, now or while reading, becomes an AudioError."""
    if not path.exists():
        raise AudioError(f"{path}: no such file", f"looked for {path.absolute()}")
    if not path.is_file():
        raise AudioError(f"{path}: is not a file", "name one recording")
    if not os.access(path, os.R_OK):
        raise AudioError(f"{path}: is not readable", "change its permissions")
    try:
        file = sf.SoundFile(path)
    # soundfile raises TypeError for a suffix that it takes for headerless samples (.raw).
    except (sf.SoundFileError, TypeError) as error:
        raise _unreadable(path, error) from error
    with file:
        try:
            yield file
        except sf.SoundFileError as error:
            raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> AudioError:
    reason = str(getattr(error, "error_string", error)).strip().rstrip(".")
    # libsndfile has no code for it: a header with a rate of 0 (or above 2^31) ends as an incomplete SF_INFO.
    if "SF_INFO" in reason:
        return AudioError(
            f"{path}: the header has no usable sample rate (0, or out of range)",
            "export it again, with the rate it was recorded at",
        )
    if path.stat().st_size == 0:
        return AudioError(f"{path}: the file is empty", "copy or export the recording again")
    return AudioError(f"{path}: cannot be read as audio ({reason})", f"possible are {READABLE}; {CONVERT_HINT}")


def _header(path: Path, file: sf.SoundFile) -> Header:
    _refuse_empty(path, file.frames)
    if file.frames == UNKNOWN_LENGTH:
        raise AudioError(
            f"{path}: the header does not state the length, as in a stream",
            "encode it again into a file, for example `ffmpeg -i stream.flac recording.flac`",
        )
    if file.channels > 2:
        raise AudioError(f"{path}: has {file.channels} channels", "mix it down to mono or stereo first")
    return Header(file.frames, file.samplerate, file.channels)


def _refuse_empty(path: Path, samples: int) -> None:
    if samples == 0:
        raise AudioError(f"{path}: the recording is empty (0 samples)", "give one that holds sound")


def _refuse_non_finite(path: Path, data: Samples) -> None:
    """`data` [n] or [n, channels]."""
    bad = ~np.isfinite(data)
    if bad.any():
        first = int(np.argmax(bad.reshape(len(data), -1).any(axis=1)))
        raise AudioError(
            f"{path}: {int(bad.sum())} of {data.size} samples are NaN or infinite, first at {first}",
            "the program that made these samples failed there; make them again",
        )


def _encode(path: Path, x: Samples, rate: int, subtype: str) -> bytes:
    """Encode in memory: then writing is Python's own, and a full disk is an OSError, not a short file."""
    buffer = io.BytesIO()
    try:
        sf.write(buffer, x, rate, format=WRITABLE[path.suffix.lower()], subtype=subtype)
    except sf.SoundFileError as error:
        raise AudioError(
            f"{path}: cannot be encoded at {rate} Hz ({error})", "choose another rate or suffix"
        ) from error
    return buffer.getvalue()


def _replace(path: Path, content: bytes) -> None:
    """Write beside `path`, then rename: a rename is atomic within one file system only."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        temporary.write_bytes(content)
        os.replace(temporary, path)
    except OSError as error:
        raise AudioError(
            f"{path}: cannot be written ({error.strerror})", "free some space, or choose another folder"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)
