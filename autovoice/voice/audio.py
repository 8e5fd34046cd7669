"""Recordings as mono float32 arrays: read and resampled. Every error names the file."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISREG

import numpy as np
import soundfile as sf
from numpy.typing import NDArray

from autovoice.errors import AudioError
from autovoice.machine.free_memory import available
from autovoice.voice.clock import output_length

Samples = NDArray[np.float32]

READABLE = "wav, flac, ogg, mp3, aiff and others that libsndfile decodes"
CONVERT_HINT = "convert it first, for example `ffmpeg -i recording.m4a recording.wav`"

# Rates that recordings have, in Hz, with room on both sides; at others a small file may become a huge one.
RATES = (1000, 1_000_000)
# libsndfile's own errors, and what its Python binding raises of formats that it cannot seek in, of names and of sizes.
LIBRARY_ERRORS = (sf.SoundFileError, TypeError, ValueError, RuntimeError, OSError, OverflowError)
_BLOCK = 1 << 18
# of the log that libsndfile keeps: bytes of a wav's or an aiff's samples
_CORRECTED = re.compile(r"^ ?(?:data|SSND) : (\d+) \(should be (\d+)\)", re.MULTILINE)
_PIPED = 2**31 - 2**16
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


def probe_audio(path: Path) -> Header:
    """Read the header alone, so that a recording can be refused before it is decoded.

    Raises AudioError for a file that is missing, not audio, empty, without a usable sample rate or a length, or
    of more than two channels.
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
        declared = _declared(file) or header.samples
        data = _decoded(path, file, header)
    if declared - len(data) > DECLARED_TOLERANCE_S * header.sample_rate:
        decoded, whole = len(data) / header.sample_rate, declared / header.sample_rate
        raise AudioError(
            f"{path}: is cut short, {decoded:.2f} s of the {whole:.2f} s that it declares",
            "copy or export it again",
        )
    _refuse_empty(path, len(data))
    refuse_non_finite(path, data)
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
    try:
        y = np.asarray(soxr.resample(x, from_rate, to_rate, quality="HQ"), dtype=np.float32)[:wanted]
    except (ValueError, RuntimeError, TypeError) as error:
        fact = f"{len(x)} samples cannot be resampled from {from_rate} to {to_rate} Hz: {error}"
        raise AudioError(fact, "give a recording of another rate") from error
    return np.pad(y, (0, wanted - len(y)))


@contextmanager
def _opened(path: Path) -> Iterator[sf.SoundFile]:
    """Open for reading; an error of the library, now or while reading, becomes an AudioError."""
    _refuse_no_file(path)
    try:
        file = sf.SoundFile(path)
    # soundfile raises TypeError for a suffix that it takes for headerless samples (.raw).
    except LIBRARY_ERRORS as error:
        raise _unreadable(path, error) from error
    with file:
        try:
            yield file
        except LIBRARY_ERRORS as error:
            raise _unreadable(path, error) from error


def _refuse_no_file(path: Path) -> None:
    try:
        mode = path.stat().st_mode
    except FileNotFoundError as error:
        raise AudioError(f"{path}: no such file", f"looked for {path.absolute()}") from error
    except OSError as error:
        raise AudioError(f"{path}: no such file ({error.strerror})", f"looked for {path.absolute()}") from error
    except ValueError as error:  # a zero byte, or what the file system cannot encode
        raise AudioError(f"{path}: cannot be a file's name", "name one recording") from error
    if not S_ISREG(mode):
        raise AudioError(f"{path}: is not a file", "name one recording")
    if not os.access(path, os.R_OK):
        raise AudioError(f"{path}: is not readable", "change its permissions")


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
    lowest, highest = RATES
    if not lowest <= file.samplerate <= highest:
        raise AudioError(
            f"{path}: the header has no usable sample rate, {file.samplerate} Hz",
            f"possible are {lowest} to {highest}: export it again, with the rate it was recorded at",
        )
    return Header(file.frames, file.samplerate, file.channels)


def _declared(file: sf.SoundFile) -> int | None:
    """Samples that a header speaks of which libsndfile silently corrects to what the file holds; None where it agrees.

    Whoever writes into a pipe cannot know the size, and writes the largest number that there is, or 0.
    """
    found = _CORRECTED.search(file.extra_info)
    if found is None:
        return None
    said, held = int(found[1]), int(found[2])
    return file.frames * said // held if 0 < held < said < _PIPED else None


def _decoded(path: Path, file: sf.SoundFile, header: Header) -> Samples:
    """[n, channels], read block by block: memory follows what is there, not what the header declares.

    Formats without seeking (GSM 6.10) are read from the beginning, as many samples as asked for at a time.
    """
    free = available()
    size = 8 * header.samples * header.channels  # the blocks, and the whole that is made of them
    if free is not None and size > free:
        fact = f"{path}: declares {header.seconds / 3600:.1f} h, and there is no memory for as much"
        raise AudioError(fact, "cut it into shorter ones")
    blocks: list[Samples] = []
    left = header.samples
    while left > 0:
        block = file.read(min(left, _BLOCK), dtype="float32", always_2d=True)
        if len(block) == 0:
            break
        blocks.append(block)
        left -= len(block)
    return np.concatenate(blocks) if blocks else np.zeros((0, header.channels), np.float32)


def _refuse_empty(path: Path, samples: int) -> None:
    if samples == 0:
        raise AudioError(f"{path}: the recording is empty (0 samples)", "give one that holds sound")


def refuse_non_finite(path: Path, data: Samples) -> None:
    """Raise AudioError for values that are NaN or infinite; `data` [n] or [n, channels]."""
    bad = ~np.isfinite(data)
    if bad.any():
        first = int(np.argmax(bad.reshape(len(data), -1).any(axis=1)))
        raise AudioError(
            f"{path}: {int(bad.sum())} of {data.size} samples are NaN or infinite, first at {first}",
            "the program that made these samples failed there; make them again",
        )
