"""Singing voice conversion of one file through a built pipeline."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from autovoice.errors import AudioError, choices
from autovoice.voice.audio import Audio, Header, Samples, probe_audio, read_audio, resample
from autovoice.voice.clock import frame_count, output_length
from autovoice.voice.f0 import Pitch, estimate_f0, transpose
from autovoice.voice.limits import Bounds, Contract, check_length
from autovoice.voice.request import ConvertRequest, check_request
from autovoice.voice.speaker import read_speaker
from autovoice.voice.writing import check_writable, write_audio

Feeds = dict[str, NDArray[Any]]

LATENT_CHANNELS = 192
OUTPUT = "audio_output"
KNOWN_INPUTS = frozenset(
    {"input_audio", "sample_rate", "f0_input", "voiced_mask", "speaker_embedding", "latent_input", "mask"}
)


class VoicePipeline(Protocol):
    """What a conversion asks of a pipeline; `dims` and `contract` are those it was built with."""

    @property
    def dims(self) -> Mapping[str, Bounds]: ...
    @property
    def contract(self) -> Mapping[str, Any]: ...
    @property
    def input_names(self) -> Sequence[str]: ...
    @property
    def output_names(self) -> Sequence[str]: ...
    def run(self, feeds: Feeds) -> Mapping[str, NDArray[Any]]: ...


@dataclass(frozen=True)
class ConvertResult:
    """What was written and how long it took.

    `peak` is that of the converted signal, before it was scaled down to 1 if `scaled`; `realtime_factor` is
    seconds of recording per second of work; `timings` are seconds by stage.
    """

    output: Path
    seconds_in: float
    seconds_out: float
    sample_rate: int
    frames: int
    peak: float
    scaled: bool
    realtime_factor: float
    voiced_share: float
    timings: Mapping[str, float]


def convert(pipeline: VoicePipeline, request: ConvertRequest) -> ConvertResult:
    """Convert `request.input` to the voice of `request.speaker` and write `request.output`.

    Everything that can be known beforehand is checked before the recording is decoded, and nothing is written
    unless the conversion succeeds. Raises AudioError for a request, recording or pipeline that does not fit,
    and whatever `pipeline.run` raises.
    """
    contract, speaker = _check(pipeline, request)
    clock = _Stopwatch()
    with clock.stage("read"):
        source = read_audio(request.input)
        length = Header(len(source.samples), source.sample_rate, source.channels)
        # A lossy file may decode to a little less than its header declares.
        check_length(str(request.input), length, contract, pipeline.dims)
    frames = frame_count(length.samples, length.sample_rate, contract.sample_rate, contract.hop)
    with clock.stage("resample"):
        samples = resample(source.samples, source.sample_rate, contract.content_sample_rate)
        content = Audio(samples, contract.content_sample_rate)
    with clock.stage("pitch"):
        band = (request.f0_min, request.f0_max)
        pitch = estimate_f0(content, frames, contract.sample_rate, contract.hop, *band)
    feeds = make_feeds(request, content, pitch, speaker)
    with clock.stage("pipeline"):
        outputs = pipeline.run({n: feeds[n] for n in pipeline.input_names})
    with clock.stage("write"):
        voice = _checked_output(outputs, frames * contract.hop)
        voice = resample(voice, contract.sample_rate, request.output_sample_rate)
        # Frames cover the recording, so the voice is never shorter than it.
        voice = voice[: output_length(length.samples, length.sample_rate, request.output_sample_rate)]
        written = write_audio(request.file, voice, request.output_sample_rate)
    return ConvertResult(
        output=request.output,
        seconds_in=length.seconds,
        seconds_out=len(voice) / request.output_sample_rate,
        sample_rate=request.output_sample_rate,
        frames=frames,
        peak=written.peak,
        scaled=written.scaled,
        realtime_factor=length.seconds / clock.total,
        voiced_share=pitch.voiced_share,
        timings=clock.timings,
    )


def make_feeds(request: ConvertRequest, content: Audio, pitch: Pitch, speaker: Samples | None) -> Feeds:
    """Every tensor that a voice pipeline may ask for, at batch 1.

    `content` is the recording at the content rate, `pitch` its contour of T frames, `speaker` [1, 256]. The
    latent is a standard normal [1, 192, T] from `seed`, times the temperature.
    """
    frames = len(pitch.hz)
    rng = np.random.default_rng(request.seed)
    noise = rng.standard_normal((1, LATENT_CHANNELS, frames), dtype=np.float32)
    feeds: Feeds = {
        "input_audio": content.samples[np.newaxis],
        "sample_rate": np.array([content.sample_rate], np.int32),
        "f0_input": transpose(pitch.filled(), request.transpose)[np.newaxis],
        "voiced_mask": pitch.voiced[np.newaxis],
        "latent_input": noise * np.float32(request.sampling_temperature),
        "mask": np.ones((1, 1, frames), np.float32),
    }
    return feeds if speaker is None else {**feeds, "speaker_embedding": speaker}


def _check(pipeline: VoicePipeline, request: ConvertRequest) -> tuple[Contract, Samples | None]:
    """Refuse what can be refused without decoding the recording; cheapest first."""
    check_request(request)
    contract = _check_pipeline(pipeline)
    speaker = read_speaker(request.speaker) if "speaker_embedding" in pipeline.input_names else None
    check_writable(request.file)
    check_length(str(request.input), probe_audio(request.input), contract, pipeline.dims)
    return contract, speaker


def check_files(request: ConvertRequest) -> None:
    """Raise AudioError for files that cannot be read or written, before anything long begins."""
    check_writable(request.file)
    probe_audio(request.input)
    if request.speaker is not None:
        read_speaker(request.speaker)


def _check_pipeline(pipeline: VoicePipeline) -> Contract:
    contract = Contract.of(pipeline.contract)
    unknown = [n for n in pipeline.input_names if n not in KNOWN_INPUTS]
    if unknown:
        raise AudioError(
            f"task=convert cannot make the pipeline's input {choices(unknown)}",
            f"it makes {choices(KNOWN_INPUTS)}; task=run feeds=in.npz output=out.npz takes any tensors",
        )
    if OUTPUT not in pipeline.output_names:
        last = choices(pipeline.output_names)
        raise AudioError(
            f"the pipeline has no '{OUTPUT}', it ends at {last}: the vocoder is missing",
            "add one; task=run feeds=in.npz output=out.npz gives what there is, such as the mel",
        )
    return contract


def _checked_output(outputs: Mapping[str, NDArray[Any]], wanted: int) -> Samples:
    """The converted voice as float32 [wanted], from `audio_output` [1, 1, wanted]."""
    voice = np.asarray(outputs[OUTPUT])
    if voice.shape != (1, 1, wanted):
        raise AudioError(
            f"the pipeline gave '{OUTPUT}' of shape {list(voice.shape)}, expected is [1, 1, {wanted}]",
            "the hop in its `audio` contract must be the one that its vocoder upsamples by",
        )
    voice = voice.reshape(-1).astype(np.float32)
    bad = int(np.count_nonzero(~np.isfinite(voice)))
    if bad:
        raise AudioError(
            f"the pipeline gave NaN or infinite values in {bad} of {wanted} samples of '{OUTPUT}'",
            "a component overflows at its precision: try precision=fp32, or component.<name>.precision=fp32",
        )
    return voice


class _Stopwatch:
    """Seconds of named stages."""

    def __init__(self) -> None:
        self.timings: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        start = perf_counter()
        yield
        self.timings[name] = perf_counter() - start

    @property
    def total(self) -> float:
        return sum(self.timings.values())
