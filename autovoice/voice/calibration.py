"""Recordings as calibration samples: cut to lengths of the profile and through the front end of a conversion."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np

from autovoice.errors import CalibrationError, choices
from autovoice.voice.audio import Audio, Samples, read_audio, resample
from autovoice.voice.convert import Feeds, make_feeds
from autovoice.voice.f0 import estimate_f0
from autovoice.voice.limits import Contract
from autovoice.voice.request import ConvertRequest
from autovoice.voice.speaker import SPEAKER_CHANNELS, read_speaker

RECORDINGS = (".wav", ".flac", ".ogg", ".mp3", ".aiff", ".aif")


@dataclass(frozen=True)
class Cut:
    """`frames` frames of the recording `name`, from `start` (0 to 1 of what is left) on."""

    name: str
    frames: int
    start: float


def recordings(
    files: Mapping[str, Path],
    inputs: Mapping[str, Any],
    audio: Mapping[str, Any],
    frames: Mapping[str, Any],
    samples: int = 24,
    seconds: Sequence[float] = (0.4, 6.0),
    transpose: Sequence[float] = (-6.0, 6.0),
    f0_min: float = 50.0,
    f0_max: float = 1100.0,
    seed: int = 0,
) -> Iterator[tuple[str, Feeds]]:
    """`samples` excerpts as a voice pipeline's inputs, batch 1, unpadded.

    Lengths are spread evenly on a logarithmic scale over `seconds`, as far as the profile of `frames` {min, max}
    and the recordings reach; each excerpt is transposed by a random number of semitones out of `transpose`, and
    has noise of its own for a latent. Speakers are the `.npy` files among `files`, in turn, else random ones.
    Raises CalibrationError where no file is a recording, AudioError for one that cannot be read.
    """
    contract = Contract.of(audio)
    voices = {n: _content(p, contract) for n, p in sorted(files.items()) if p.suffix.lower() in RECORDINGS}
    if not voices:
        raise CalibrationError(f"no recording among {len(files)} files", f"expected {choices(RECORDINGS)}")
    speakers = [read_speaker(p) for _, p in sorted(files.items()) if p.suffix == ".npy"]
    rng = np.random.default_rng(seed)
    for index, cut in enumerate(_cuts(voices, contract, frames, samples, seconds, rng)):
        piece = _cut(voices[cut.name], cut, contract, frames["min"])
        pitch = estimate_f0(piece, cut.frames, contract.sample_rate, contract.hop, f0_min, f0_max)
        semitones = float(rng.uniform(transpose[0], transpose[1]))
        request = ConvertRequest(Path(), Path(), None, transpose=semitones, seed=seed + index)
        anyone = rng.standard_normal((1, SPEAKER_CHANNELS), np.float32)
        speaker = speakers[index % len(speakers)] if speakers else anyone
        feeds = make_feeds(request, piece, pitch, speaker)
        where = f"{cut.name} {len(piece.samples) / piece.sample_rate:.2f} s"
        yield where, {n: v for n, v in feeds.items() if n in inputs}


def _content(path: Path, contract: Contract) -> Audio:
    """A recording at the rate of the content encoder."""
    source = read_audio(path)
    rate = contract.content_sample_rate
    return Audio(resample(source.samples, source.sample_rate, rate), rate)


def _cuts(
    voices: Mapping[str, Audio],
    contract: Contract,
    frames: Mapping[str, Any],
    samples: int,
    seconds: Sequence[float],
    rng: np.random.Generator,
) -> list[Cut]:
    """Lengths spread over the profile, each from a recording that is long enough, or else from the longest."""
    rate = contract.sample_rate / contract.hop
    # one frame more than the profile's least: a length in samples is rounded down
    low = max(frames["min"] + 1, round(seconds[0] * rate))
    high = min(frames["max"], max(low, round(seconds[1] * rate)))
    low = min(low, high)
    # one less than fits: the length in samples is rounded up
    lengths = {n: int((len(v.samples) - 1) * rate / v.sample_rate) for n, v in voices.items()}
    cuts = []
    for wanted in np.geomspace(low, high, samples).round().astype(int):
        fits = [n for n, length in lengths.items() if length >= wanted] or [max(lengths, key=lambda n: lengths[n])]
        name = fits[int(rng.integers(len(fits)))]
        cuts.append(Cut(name, min(int(wanted), lengths[name]), float(rng.random())))
    return cuts


def _cut(voice: Audio, cut: Cut, contract: Contract, least: int) -> Audio:
    """The excerpt, of no fewer samples than the profile's `least` frames have."""
    samples = voice.sample_rate * contract.hop / contract.sample_rate
    # frames cover the recording; where the profile has one size alone, its samples are rounded up
    length = max(int(cut.frames * samples), ceil(least * samples))
    start = int(cut.start * (len(voice.samples) - length))
    piece: Samples = voice.samples[start : start + length]
    return Audio(piece, voice.sample_rate)
