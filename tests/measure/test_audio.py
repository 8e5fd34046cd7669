from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from autovoice.measure.audio import (
    audio_distances,
    log_mel_l1,
    log_spectral_distance,
    mel_cepstral_distortion,
    mel_filterbank,
    multi_resolution_stft,
)
from autovoice.measure.parity import compare

RATES = [8000, 16000, 22050, 25600, 44100, 48000, 51200, 96000]
KEYS = ["lsd_db", "mcd_db", "log_mel_l1", "mr_stft"]
TWICE_DB = 20 * math.log10(2)


def noise(*shape: int, seed: int = 0, amplitude: float = 0.1) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal(shape) * amplitude).astype(np.float32)


def sine(hz: float, samples: int, sample_rate: int = 16000, phase: float = 0.0) -> np.ndarray:
    return np.sin(2 * np.pi * hz / sample_rate * np.arange(samples) + phase).astype(np.float32)


def filtered(signal: np.ndarray, gain_db: Callable[[np.ndarray], np.ndarray], sample_rate: int) -> np.ndarray:
    """`signal` through a zero-phase filter of `gain_db(Hz)`."""
    spectrum = np.fft.rfft(signal.astype(np.float64))
    hz = np.fft.rfftfreq(len(signal), 1 / sample_rate)
    return np.fft.irfft(spectrum * 10 ** (gain_db(hz) / 20), len(signal))


def mel(hz: np.ndarray) -> np.ndarray:
    return np.where(hz > 1000, 15 + 27 * np.log(np.maximum(hz, 1) / 1000) / np.log(6.4), hz * 3 / 200)


@pytest.mark.parametrize("sample_rate", [8000, 16000, 22050, 48000, 96000])
def test_equal_signals(sample_rate: int) -> None:
    signal = noise(5000)
    assert audio_distances(signal, signal.copy(), sample_rate) == dict.fromkeys(KEYS, 0.0)


def test_silence_is_equal_to_silence() -> None:
    silence = np.zeros(4096, np.float32)
    assert audio_distances(silence, silence, 16000) == dict.fromkeys(KEYS, 0.0)


def test_rows_whose_reference_is_silent_do_not_count() -> None:
    """Below -100 dB logarithms compare floors; how loud the error is there, the SNR tells."""
    reference = np.stack([noise(4096), np.full(4096, 1e-6, np.float32)])
    got = reference + noise(2, 4096, seed=1, amplitude=1e-4)
    assert audio_distances(got, reference, 16000) == audio_distances(got[:1], reference[:1], 16000)
    assert audio_distances(got[1:], reference[1:], 16000) == dict.fromkeys(KEYS)
    assert compare(got[1:], reference[1:]).snr_db == pytest.approx(-40, abs=1)


def test_a_gain_of_two() -> None:
    reference = noise(16000)
    distances = audio_distances(2 * reference, reference, 16000)
    assert distances["lsd_db"] == pytest.approx(TWICE_DB, abs=1e-3)  # a few bins reach the floor
    assert distances["log_mel_l1"] == pytest.approx(math.log(2), rel=1e-6)
    assert distances["mcd_db"] == pytest.approx(0, abs=1e-6)  # the level is coefficient 0, which is left out
    assert distances["mr_stft"] == pytest.approx(1 + math.log(2), rel=1e-4)


def test_mr_stft_is_relative_to_the_reference() -> None:
    signal = noise(16000)
    assert multi_resolution_stft(signal / 2, signal) == pytest.approx(0.5 + math.log(2), rel=1e-4)


def test_the_opposite_polarity_is_no_distance() -> None:
    signal = noise(8000)
    assert compare(-signal, signal).snr_db < -6
    assert audio_distances(-signal, signal, 16000) == pytest.approx(dict.fromkeys(KEYS, 0.0), abs=1e-9)


def test_a_quarter_of_a_period_is_next_to_no_distance() -> None:
    """Not exactly none: at the two ends the reflection of a sine is not that of a cosine."""
    background = noise(32000, amplitude=0.01)
    x, r = (sine(1000, 32000, phase=phase) + background for phase in (math.pi / 2, 0))
    assert compare(x, r).snr_db < 0
    near = audio_distances(x, r, 16000)
    far = audio_distances(x, sine(1300, 32000) + background, 16000)
    assert all(near[key] < far[key] / 4 for key in KEYS)
    assert near["lsd_db"] < 1


def test_more_noise_is_farther() -> None:
    reference = sine(300, 16000) / 2 + noise(16000, amplitude=0.01)
    series = [
        audio_distances(reference + noise(16000, seed=1, amplitude=a), reference, 16000) for a in (1e-3, 1e-2, 1e-1)
    ]
    for key in KEYS:
        values = [distances[key] for distances in series]
        assert 0 < values[0] < values[1] / 2 < values[2] / 3, key


def test_lsd_of_a_filter_is_its_rms() -> None:
    """+6 dB on the lower half of the band and 0 on the upper: 6/√2."""
    reference = noise(64000)
    x = filtered(reference, lambda hz: np.where(hz < 4000, 6.0, 0.0), 16000)
    assert log_spectral_distance(x, reference) == pytest.approx(6 / math.sqrt(2), rel=0.01)


def test_lsd_is_by_frame() -> None:
    """Half the frames 12 dB too loud are 6 dB in the mean, where the RMS over all would be 8.5."""
    reference = noise(512 * 400)
    x = reference * np.repeat([4.0, 1.0], 512 * 200).astype(np.float32)
    assert log_spectral_distance(x, reference) == pytest.approx(TWICE_DB, rel=0.01)


def test_below_the_floor_all_is_silence() -> None:
    """Full scale is a sine of amplitude 1: one at -90 dB stands 10 dB above the floor, one at -110 dB does not."""
    reference = np.zeros(16000, np.float32)
    tone = sine(1000, 16000)
    assert log_spectral_distance(tone * 10 ** (-110 / 20), reference) == 0
    assert log_spectral_distance(tone * 10 ** (-110 / 20), reference, floor_db=-120) > 0
    assert log_mel_l1(tone * 10 ** (-110 / 20), reference, 16000) == 0
    assert log_spectral_distance(tone * 10 ** (-90 / 20), reference) > 0
    assert log_mel_l1(tone * 10 ** (-90 / 20), reference, 16000) > 0


def test_a_full_scale_sine_reaches_0_db() -> None:
    """With the floor just above 0 dB only what is louder is left: of twice the sine 6 dB in its one bin of 1025."""
    tone = sine(1000, 32768)
    silence = np.zeros_like(tone)
    assert log_spectral_distance(tone, silence, floor_db=0.01) == pytest.approx(0, abs=1e-3)
    assert log_spectral_distance(2 * tone, silence, floor_db=0.01) == pytest.approx(
        TWICE_DB / math.sqrt(1025), rel=0.05
    )


@pytest.mark.parametrize("sample_rate", [16000, 48000])
@pytest.mark.parametrize(("periods", "share"), [(1, 1), (6, 1), (12, 1), (20, 0)])
def test_mcd_of_a_ripple_along_the_mel_axis(sample_rate: int, periods: int, share: int) -> None:
    """A ripple of 4 dB in amplitude has an RMS of 4/√2 dB; 20 periods are coefficient 40, past the last one."""
    reference = noise(sample_rate * 2)
    nyquist = mel(np.array(sample_rate / 2))
    x = filtered(reference, lambda hz: 4 * np.cos(2 * np.pi * periods * mel(hz) / nyquist), sample_rate)
    found = mel_cepstral_distortion(x, reference, sample_rate)
    assert found == pytest.approx(share * 4 / math.sqrt(2), abs=0.4)


def test_mr_stft_agrees_with_auraloss() -> None:
    """0.838516436 is what auraloss 0.4.0 (torch 2.13.0, float64) gives for these two."""
    t = np.arange(16000) / 16000
    reference = np.sin(2 * np.pi * (200 * t + 1500 * t**2))
    x = 0.7 * reference + 0.1 * np.sin(2 * np.pi * 3000 * t)
    assert multi_resolution_stft(x, reference) == pytest.approx(0.838516436, rel=1e-6)


@pytest.mark.parametrize("sample_rate", RATES)
def test_mel_triangles_have_area_1(sample_rate: int) -> None:
    n_fft = 1 << math.ceil(math.log2(0.04 * sample_rate))
    bank = mel_filterbank(sample_rate, n_fft)
    assert bank.shape == (80, n_fft // 2 + 1)
    assert bank.min() == 0
    np.testing.assert_allclose(bank.sum(axis=1) * sample_rate / n_fft, 1, atol=0.08)  # 4 bins a triangle


def test_mel_triangles_stand_where_slaney_puts_them() -> None:
    """1 kHz is 15 mel and 6.4 kHz is 42: 13 bands to there are centred 3 mel apart."""
    bank = mel_filterbank(12800, 1 << 15, bands=13)
    hz = np.arange(bank.shape[1]) * 12800 / (1 << 15)
    centres = hz[bank.argmax(axis=1)]
    np.testing.assert_allclose(centres[:5], [200, 400, 600, 800, 1000], atol=0.4)
    np.testing.assert_allclose(centres[5:], 1000 * 6.4 ** (np.arange(1, 9) / 9), atol=0.4)
    np.testing.assert_allclose(bank.max(axis=1)[:4], 2 / 400, rtol=0.01)


def test_mel_triangles_are_linear_to_1_khz() -> None:
    bank = mel_filterbank(2000, 2000, bands=4)
    assert bank.argmax(axis=1).tolist() == [200, 400, 600, 800]


def test_mr_stft_against_silence_is_huge_and_finite() -> None:
    assert 1e4 < multi_resolution_stft(noise(4096), np.zeros(4096, np.float32)) < math.inf


def test_mean_over_rows() -> None:
    x, r = noise(2, 3, 4096), noise(2, 3, 4096, seed=1)
    x[0] = r[0]
    rows = [audio_distances(a, b, 24000) for a, b in zip(x.reshape(6, -1), r.reshape(6, -1), strict=True)]
    assert rows[0] != rows[3]
    together = audio_distances(x, r, 24000)
    assert together == pytest.approx({key: np.mean([row[key] for row in rows]) for key in KEYS})


def test_float16_is_computed_in_float64() -> None:
    reference = noise(8000, amplitude=0.2)
    half = reference.astype(np.float16)
    distances = audio_distances(half, reference, 16000)
    assert distances == audio_distances(half.astype(np.float64), reference.astype(np.float64), 16000)
    assert 0 < distances["lsd_db"] < 0.1
    assert audio_distances(half, half, 16000) == dict.fromkeys(KEYS, 0.0)


def test_the_shortest_signal() -> None:
    assert audio_distances(noise(2048), noise(2048, seed=1), 48000)["lsd_db"] > 0


def with_nan(signal: np.ndarray) -> np.ndarray:
    signal[7] = np.nan
    return signal


@pytest.mark.parametrize(
    ("x", "r", "sample_rate", "message"),
    [
        pytest.param(noise(4096), noise(4095), 16000, r"shape \[4096\], the reference has \[4095\]", id="shape"),
        pytest.param(noise(1, 4096), noise(4096), 16000, r"shape \[1, 4096\], the reference has", id="rank"),
        pytest.param(noise(2047), noise(2047), 16000, r"\[2047\], at least one row of 2048 samples", id="short"),
        pytest.param(noise(4095), noise(4095), 96000, r"\[4095\], at least one row of 4096 samples", id="short_96k"),
        pytest.param(noise(0, 4096), noise(0, 4096), 16000, r"\[0, 4096\], at least one row", id="no_row"),
        pytest.param(np.float32(1), np.float32(1), 16000, r"shape \[\], at least one row", id="scalar"),
        pytest.param(with_nan(noise(4096)), noise(4096), 16000, "the signal has 1 values that are not", id="nan"),
        pytest.param(noise(4096), with_nan(noise(4096)), 16000, "the reference has 1 values that are not", id="nan_r"),
        pytest.param(
            noise(4096), np.full(4096, np.inf, np.float16), 16000, "the reference has 4096 values", id="infinite"
        ),
        pytest.param(np.ones(4096, np.int16), noise(4096), 16000, "the signal has dtype int16, floating", id="pcm"),
        pytest.param(noise(4096), noise(4096), 4000, "a sample rate of 4000 Hz, at least 8000", id="rate"),
    ],
)
def test_what_cannot_be_compared(x: np.ndarray, r: np.ndarray, sample_rate: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        audio_distances(x, r, sample_rate)


@pytest.mark.parametrize(
    "distance",
    [
        pytest.param(log_spectral_distance, id="lsd"),
        pytest.param(lambda x, r: mel_cepstral_distortion(x, r, 16000), id="mcd"),
        pytest.param(lambda x, r: log_mel_l1(x, r, 16000), id="mel"),
        pytest.param(multi_resolution_stft, id="mr_stft"),
    ],
)
def test_each_distance_checks_for_itself(distance: Callable[[np.ndarray, np.ndarray], float]) -> None:
    with pytest.raises(ValueError, match="the reference has"):
        distance(noise(4096), noise(4097))
    with pytest.raises(ValueError, match="at least one row"):
        distance(noise(1000), noise(1000))
