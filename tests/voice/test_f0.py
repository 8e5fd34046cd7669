from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import swift_f0

from autovoice.errors import AudioError
from autovoice.voice import f0
from autovoice.voice.audio import Audio
from autovoice.voice.clock import frame_count, frame_times
from autovoice.voice.f0 import Pitch, check_band, estimate_f0, transpose

Tone = Callable[..., np.ndarray]


def pitch_of(x: np.ndarray, rate: int, **band: float) -> Pitch:
    return estimate_f0(Audio(x, rate), frame_count(len(x), rate, 22050, 256), 22050, 256, **band)


def cents(hz: np.ndarray, reference: np.ndarray | float) -> np.ndarray:
    return 1200 * np.log2(hz / reference)


def test_the_constants_are_those_of_the_estimator() -> None:
    assert swift_f0.SAMPLE_RATE == f0.ESTIMATOR_RATE
    assert f0.ESTIMATOR_HOP / f0.ESTIMATOR_RATE == swift_f0.FRAME_PERIOD
    assert (swift_f0.FMIN, swift_f0.FMAX) == f0.ESTIMATOR_RANGE


@pytest.mark.parametrize("rate", [8000, 16000, 22050, 44100, 48000])
def test_a_tone_at_any_rate(tone: Tone, rate: int) -> None:
    pitch = pitch_of(tone(220, 1, rate), rate)
    assert pitch.hz.shape == pitch.voiced.shape == (87,)
    assert (pitch.hz.dtype, pitch.voiced.dtype) == (np.float32, np.bool_)
    assert pitch.voiced_share > 0.95
    assert np.max(np.abs(cents(pitch.hz[pitch.voiced], 220))) < 20


@pytest.mark.parametrize("hz", [60, 110, 440, 880, 1050])
def test_the_range_of_singing(tone: Tone, hz: float) -> None:
    pitch = pitch_of(tone(hz, 1, 44100), 44100)
    assert pitch.voiced_share > 0.95
    assert np.max(np.abs(cents(pitch.hz[pitch.voiced], hz))) < 20


def test_a_glide_is_followed_in_time() -> None:
    rate = 16000
    phase = 2 * np.pi * np.cumsum(200 * 2 ** (np.arange(2 * rate) / rate / 2)) / rate
    pitch = pitch_of(sum(np.sin(k * phase) / k for k in range(1, 8)).astype(np.float32) * 0.2, rate)
    expected = 200 * 2 ** (frame_times(len(pitch.hz), 22050, 256) / 2)
    inner = slice(5, -5)
    # 600 cents a second: 10 cents are 17 ms, a little more than one frame.
    assert np.max(np.abs(cents(pitch.hz[inner], expected[inner]))) < 15
    assert abs(np.mean(cents(pitch.hz[inner], expected[inner]))) < 4


@pytest.mark.parametrize("amplitude", [0.0, 3e-5])
def test_silence_and_dither_are_unvoiced_and_finite(amplitude: float) -> None:
    noise = amplitude * np.random.default_rng(0).standard_normal(44100).clip(-1, 1)
    pitch = pitch_of(noise.astype(np.float32), 44100)
    assert not pitch.voiced.any()
    assert not pitch.hz.any()
    assert not pitch.filled().any()


def test_noise_is_unvoiced() -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, 44100).astype(np.float32)
    assert pitch_of(noise, 44100).voiced_share < 0.05


@pytest.mark.parametrize("peak", [3e-4, 3e-3, 0.02, 1.0, 3e4])
def test_the_level_does_not_matter(tone: Tone, peak: float) -> None:
    assert pitch_of(tone(220, 0.5, 16000, peak=peak), 16000).voiced_share > 0.9


@pytest.mark.parametrize("samples", [1, 2, 255, 256, 700])
def test_short_recordings_are_taken(tone: Tone, samples: int) -> None:
    pitch = pitch_of(tone(220, samples / 16000, 16000), 16000)
    assert np.isfinite(pitch.filled()).all()


def test_forty_milliseconds_are_enough_to_hear_a_pitch(tone: Tone) -> None:
    pitch = pitch_of(tone(220, 0.04, 16000), 16000)
    assert pitch.voiced.any()
    assert np.max(np.abs(cents(pitch.hz[pitch.voiced], 220))) < 30


def test_the_end_of_a_tone_is_voiced(tone: Tone) -> None:
    voiced = pitch_of(tone(220, 0.5, 16000), 16000).voiced
    assert voiced[-4:-1].all()
    # The centre of the last of 44 frames lies at 505 ms, after the end.
    assert not voiced[-1]


def test_silence_around_a_tone(tone: Tone) -> None:
    rest = np.zeros(8000, np.float32)
    pitch = pitch_of(np.concatenate([rest, tone(220, 0.5, 16000), rest]), 16000)
    sounding = (frame_times(len(pitch.hz), 22050, 256) // 0.5) == 1
    assert np.mean(pitch.voiced == sounding) > 0.95
    assert np.max(np.abs(cents(pitch.filled(), 220))) < 20


def test_a_pitch_outside_the_band_is_unvoiced(tone: Tone) -> None:
    assert pitch_of(tone(220, 0.5, 16000), 16000, f0_min=300, f0_max=1100).voiced_share < 0.05


def test_filled_is_straight_in_log_frequency_and_held_at_the_edges() -> None:
    hz = np.array([0, 100, 0, 400, 0], np.float32)
    filled = Pitch(hz, hz > 0).filled()
    np.testing.assert_allclose(filled, [100, 100, 200, 400, 400], rtol=1e-6)
    assert filled.dtype == np.float32


def test_filled_without_any_voice_is_zero() -> None:
    assert not Pitch(np.zeros(4, np.float32), np.zeros(4, np.bool_)).filled().any()


@pytest.mark.parametrize(("semitones", "factor"), [(12, 2), (-12, 0.5), (0, 1), (7, 2 ** (7 / 12)), (-24, 0.25)])
def test_transposition(semitones: float, factor: float) -> None:
    hz = np.array([0, 110, 220.5], np.float32)
    shifted = transpose(hz, semitones)
    np.testing.assert_allclose(shifted, hz * factor, rtol=1e-6)
    assert shifted.dtype == np.float32


@pytest.mark.parametrize(
    ("low", "high", "fact"),
    [
        (500, 500, "no band of pitch"),
        (600, 500, "no band of pitch"),
        (40, 500, "needed is 46.875 <="),
        (50, 3000, "<= 2093.75"),
        (float("nan"), 500, "no band of pitch"),
        (500, 510, "give at least f0_max=525.0"),
    ],
)
def test_refused_bands(low: float, high: float, fact: str) -> None:
    with pytest.raises(AudioError, match=fact):
        check_band(low, high)
