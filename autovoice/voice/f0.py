"""The pitch of a recording on a model's frame clock, by swift-f0 (MIT; 16 kHz, 16 ms frames)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from autovoice.errors import AudioError
from autovoice.voice.audio import Audio, Samples, resample
from autovoice.voice.clock import frame_times

if TYPE_CHECKING:
    from swift_f0 import SwiftF0

ESTIMATOR_RATE = 16000
ESTIMATOR_HOP = 256
ESTIMATOR_RANGE = (46.875, 2093.75)
# swift-f0 scores pitches in steps of 4.1 %; a band narrower than one step holds no candidate.
NARROWEST_BAND = 1.05
# The confidence is calibrated so that a frame is voiced from here on.
VOICED_CONFIDENCE = 0.5
# What a frame sees on each side (2815 samples, in hops). Without that much silence around it the last frame
# of a recording goes unvoiced, and anything below 40 ms gets no usable frame.
PADDING_HOPS = 11

# swift-f0 does not normalize. Below -35 dBFS it loses voiced frames; below -60 dBFS it reports none. Below
# -80 dBFS only the dither of a 16-bit file is left, which must not be raised to a voice's level.
QUIET_PEAK = 10 ** (-35 / 20)
SILENT_PEAK = 10 ** (-80 / 20)
RAISED_PEAK = 0.5


@dataclass(frozen=True)
class Pitch:
    """A pitch contour: `hz` float32 [frames], 0 where unvoiced; `voiced` bool [frames]."""

    hz: Samples
    voiced: NDArray[np.bool_]

    @property
    def voiced_share(self) -> float:
        """Voiced frames / frames."""
        return float(self.voiced.mean()) if self.voiced.size else 0.0

    def filled(self) -> Samples:
        """The contour a model is given, float32 [frames]: no drop to 0 between two notes.

        Unvoiced gaps are a straight line in log frequency, both ends hold the nearest voiced value, and a
        contour without any voiced frame stays 0.
        """
        known = np.flatnonzero(self.voiced)
        if known.size == 0:
            return np.zeros_like(self.hz)
        line = np.interp(np.arange(self.hz.size), known, np.log(self.hz[known]))
        return np.exp(line).astype(np.float32)


def estimate_f0(
    audio: Audio, frames: int, model_rate: int, hop: int, f0_min: float = 50.0, f0_max: float = 1100.0
) -> Pitch:
    """Estimate the pitch of `audio` at the centres of `frames` frames of `hop` samples at `model_rate` Hz.

    The estimator's own frames lie at `i * 16 ms`. Its pitch is interpolated between voiced frames in log
    frequency; its voicing is that of the frame nearest in time, since a decision has no in-between.
    Frames beyond the end of the recording are unvoiced. Raises AudioError as `check_band` does.
    """
    check_band(f0_min, f0_max)
    times, hz, voiced = _track(audio, f0_min, f0_max)
    if not voiced.any():
        return Pitch(np.zeros(frames, np.float32), np.zeros(frames, np.bool_))
    clock = frame_times(frames, model_rate, hop)
    contour = np.exp(np.interp(clock, times[voiced], np.log(hz[voiced])))
    nearest = np.rint((clock - times[0]) * ESTIMATOR_RATE / ESTIMATOR_HOP).astype(np.int64)
    on_clock = voiced[np.clip(nearest, 0, len(voiced) - 1)]
    return Pitch(np.where(on_clock, contour, 0.0).astype(np.float32), on_clock)


def transpose(hz: Samples, semitones: float) -> Samples:
    """Shift `hz` float32 [frames] by `semitones` of equal temperament, `hz * 2**(semitones / 12)`."""
    return hz * np.float32(2.0 ** (semitones / 12))


def check_band(f0_min: float, f0_max: float) -> None:
    """Raise AudioError unless `f0_min` to `f0_max` Hz is a band in which pitch can be estimated."""
    lowest, highest = ESTIMATOR_RANGE
    if not lowest <= f0_min < f0_max <= highest:
        raise AudioError(
            f"f0_min={f0_min:g} and f0_max={f0_max:g} Hz are no band of pitch",
            f"needed is {lowest:g} <= f0_min < f0_max <= {highest:g}; singing lies in f0_min=50 f0_max=1100",
        )
    if f0_max < f0_min * NARROWEST_BAND:
        raise AudioError(
            f"f0_min={f0_min:g} to f0_max={f0_max:g} Hz is narrower than one step of the estimator",
            f"give at least f0_max={f0_min * NARROWEST_BAND:.1f}",
        )


def _track(
    audio: Audio, f0_min: float, f0_max: float
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """Seconds, Hz and voicing of the estimator's frames, which begin before the recording."""
    x = _levelled(resample(audio.samples, audio.sample_rate, ESTIMATOR_RATE))
    margin = PADDING_HOPS * ESTIMATOR_HOP
    padded = np.pad(x, (margin, margin + -len(x) % ESTIMATOR_HOP))
    found = _estimator().detect(padded, ESTIMATOR_RATE, fmin=f0_min, fmax=f0_max)
    times = found.timestamps - margin / ESTIMATOR_RATE
    inside = (times >= 0) & (times <= len(x) / ESTIMATOR_RATE)
    return times, found.pitch_hz, (found.confidence >= VOICED_CONFIDENCE) & inside


def _levelled(x: Samples) -> Samples:
    peak = float(np.max(np.abs(x), initial=0.0))
    if peak < SILENT_PEAK or QUIET_PEAK <= peak <= 1.0:
        return x
    return x * np.float32(RAISED_PEAK / peak)


@lru_cache(maxsize=1)
def _estimator() -> SwiftF0:
    """One estimator a process; it is safe to call from several threads."""
    from swift_f0 import SwiftF0

    # Spinning threads would take cores from the pipeline that runs next.
    return SwiftF0(spin=False)
