"""A conversion as it is asked for: its files and its numbers."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from pathlib import Path

from autovoice.errors import AudioError
from autovoice.store.output import Output
from autovoice.voice.f0 import check_band
from autovoice.voice.speaker import NEUTRAL

OUTPUT_RATES = (4000, 192000)
LARGEST_TRANSPOSE = 48.0


@dataclass(frozen=True)
class ConvertRequest:
    """One conversion.

    `speaker` is a `.npy` file or the word `zeros`; `transpose` in semitones; `sampling_temperature` scales
    the latent noise that `seed` draws, 0 being the mean voice; rates and pitches in Hz. An `output` that exists is
    replaced with `overwrite`, and never when it is one of the files that are read.
    """

    input: Path
    output: Path
    speaker: Path | str | None
    transpose: float = 0.0
    sampling_temperature: float = 1.0
    output_sample_rate: int = 44100
    seed: int = 0
    f0_min: float = 50.0
    f0_max: float = 1100.0
    overwrite: bool = False

    @property
    def reads(self) -> dict[str, Path]:
        """The files that it is made of, as they are called on the command line."""
        speaker = {} if self.speaker in (None, NEUTRAL) else {"speaker": Path(str(self.speaker))}
        return {"input": self.input, **speaker}

    @property
    def file(self) -> Output:
        """Where the result goes."""
        return Output(self.output, self.overwrite, self.reads)


def check_request(request: ConvertRequest) -> None:
    """Raise AudioError for numbers that no recording could be converted with."""
    check_band(request.f0_min, request.f0_max)
    lowest, highest = OUTPUT_RATES
    if not lowest <= request.output_sample_rate <= highest:
        raise AudioError(
            f"output_sample_rate={request.output_sample_rate} Hz is out of range",
            f"give {lowest} to {highest}, for example output_sample_rate=44100",
        )
    if not (isfinite(request.sampling_temperature) and request.sampling_temperature >= 0):
        raise AudioError(
            f"sampling_temperature={request.sampling_temperature:g} is not a finite number from 0 up",
            "0 gives the mean voice, 1 the spread that the model learned",
        )
    if not abs(request.transpose) <= LARGEST_TRANSPOSE:
        raise AudioError(
            f"transpose={request.transpose:g} semitones is out of range",
            f"give -{LARGEST_TRANSPOSE:g} to {LARGEST_TRANSPOSE:g}; an octave is 12",
        )
    if request.seed < 0:
        raise AudioError(f"seed={request.seed} is negative", "give 0 or more")
