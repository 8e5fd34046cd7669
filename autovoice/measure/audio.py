"""Distances between a waveform and its reference, whatever the phase. Needs numpy alone.

Samples are floating point of full scale 1; the two are aligned, nothing is warped. MR-STFT is written out here rather
than taken from auraloss 0.4.0: that one divides by the norm of the whole batch (its pull request #75 is open) and
needs torch, and the other distances need the transform in any case. For one row the two agree.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from autovoice.spec import AUDIO_METRICS

#: dB below the magnitude of a full-scale sine under which bins and mel bands count as equally silent
FLOOR_DB = -100.0
#: mel bands from 0 Hz to half the sample rate
BANDS = 80
#: cepstral coefficients compared are 1 to this one; 0 is the level
COEFFICIENTS = 24
#: Hz; under it the mel bands are narrower than anything worth comparing
LOWEST_RATE = 8000
#: FFT size, hop and window in samples: Yamamoto et al., arXiv:1910.11480
RESOLUTIONS = ((512, 50, 240), (1024, 120, 600), (2048, 240, 1200))
#: least power of a bin in MR-STFT, before any scaling; that of auraloss
LEAST_POWER = 1e-8


def audio_distances(x: np.ndarray, r: np.ndarray, sample_rate: int) -> dict[str, float | None]:
    """Every distance below, 0 for equal signals: `lsd_db`, `mcd_db`, `log_mel_l1` (nats), `mr_stft` (no unit).

    `x` and the reference `r` are [..., samples] of one shape and any floating dtype, `sample_rate` in Hz. Computed in
    float64, row by row; the mean over rows, but for those whose reference is silent, nowhere above a sine of
    -100 dB: there logarithms compare floors, and without other rows all are None.
    Memory: about 200 bytes per sample of a row.
    Raises ValueError on unequal shapes, no rows, samples that are not floating point or not finite, a rate below
    8000 Hz, and fewer samples than the longest transform (2048, above 51.2 kHz more): padded, such a signal would be
    compared mostly with its own reflection.
    """
    _check(x, r, shortest(sample_rate))
    x, r = (v.reshape(-1, v.shape[-1]) for v in (x, r))
    heard = (np.abs(r).max(1) > 10 ** (FLOOR_DB / 20)) | (x == r).all(1)
    if not heard.any():
        return dict.fromkeys(AUDIO_METRICS)
    x, r = x[heard], r[heard]
    return {
        "lsd_db": log_spectral_distance(x, r),
        "mcd_db": mel_cepstral_distortion(x, r, sample_rate),
        "log_mel_l1": log_mel_l1(x, r, sample_rate),
        "mr_stft": multi_resolution_stft(x, r),
    }


def shortest(sample_rate: int) -> int:
    """The fewest samples that have these distances."""
    return max(*(n_fft for n_fft, _, _ in RESOLUTIONS), _mel_fft(sample_rate))


def log_spectral_distance(
    x: np.ndarray, r: np.ndarray, n_fft: int = 2048, hop: int = 512, floor_db: float = FLOOR_DB
) -> float:
    """LSD in dB: mean over frames of √(mean over bins of (20·log10|X| - 20·log10|R|)²).

    Arguments and errors as for `audio_distances`; `n_fft` and `hop` in samples, magnitudes are at least `floor_db`
    relative to a full-scale sine. Gray & Markel 1976 (doi:10.1109/TASSP.1976.1162849); figures without the factor
    of 10 (NU-Wave, arXiv:2104.02321) are a tenth of these.
    """

    def distance(a: np.ndarray, b: np.ndarray) -> float:
        difference = _decibels(_full_scale(a, n_fft, hop), floor_db) - _decibels(_full_scale(b, n_fft, hop), floor_db)
        return float(np.sqrt(np.mean(difference**2, axis=-1)).mean())

    return _mean_over_rows(distance, x, r, n_fft)


def mel_cepstral_distortion(x: np.ndarray, r: np.ndarray, sample_rate: int) -> float:
    """MCD in dB: mean over frames of (10/ln 10)·√(2·Σ(c_x - c_r)²) over coefficients 1..24.

    Arguments and errors as for `audio_distances`. Kubichek 1993, over mel bands. The c are the cosine series of the
    log mel magnitudes, c_d = (2/K)·Σ_k ln(m_k)·cos(πd(k+½)/K), which makes the distortion the RMS over
    the mel axis, in dB, of the difference of the smoothed spectra less its mean. Orthonormal cosines would make it
    √(K/2) = 6.3 times as large.
    """
    bands = np.arange(BANDS) + 0.5
    cosines = np.cos(np.pi / BANDS * np.outer(bands, np.arange(1, COEFFICIENTS + 1))) * 2 / BANDS

    def distance(a: np.ndarray, b: np.ndarray) -> float:
        difference = (_log_mel(a, sample_rate) - _log_mel(b, sample_rate)) @ cosines
        return float(10 / np.log(10) * np.sqrt(2 * np.sum(difference**2, axis=-1)).mean())

    return _mean_over_rows(distance, x, r, _mel_fft(sample_rate))


def log_mel_l1(x: np.ndarray, r: np.ndarray, sample_rate: int) -> float:
    """Mean over frames and 80 mel bands of |ln m_x - ln m_r|, in nats; one nat is 8.7 dB.

    Arguments and errors as for `audio_distances`. The mel loss of HiFi-GAN (arXiv:2010.05646) without its
    weight; the bands are at least -100 dB relative to a full-scale sine.
    """

    def distance(a: np.ndarray, b: np.ndarray) -> float:
        return float(np.abs(_log_mel(a, sample_rate) - _log_mel(b, sample_rate)).mean())

    return _mean_over_rows(distance, x, r, _mel_fft(sample_rate))


def multi_resolution_stft(x: np.ndarray, r: np.ndarray) -> float:
    """MR-STFT: mean over three FFT sizes of ‖|R|-|X|‖/‖|R|‖ + mean|ln|R| - ln|X||; not symmetric.

    Arguments and errors as for `audio_distances`. Yamamoto et al., arXiv:1910.11480, with the defaults of auraloss's
    `MultiResolutionSTFTLoss`. Against a silent reference the first term is huge, though finite.
    """

    def distance(a: np.ndarray, b: np.ndarray) -> float:
        return float(np.mean([_stft_loss(a, b, *resolution) for resolution in RESOLUTIONS]))

    return _mean_over_rows(distance, x, r, max(n_fft for n_fft, _, _ in RESOLUTIONS))


def mel_filterbank(sample_rate: int, n_fft: int, bands: int = BANDS) -> np.ndarray:
    """Triangles of area 1 over the bins of a transform, from 0 Hz to half the rate: [bands, n_fft/2+1], in 1/Hz.

    Slaney's Auditory Toolbox (1998): linear to 1 kHz, logarithmic above; `librosa.filters.mel` by default.
    """
    edges = _hz(np.linspace(0, _mel(sample_rate / 2), bands + 2))[:, None]
    low, centre, high = edges[:-2], edges[1:-1], edges[2:]
    hz = np.arange(n_fft // 2 + 1) * (sample_rate / n_fft)
    triangles = np.minimum((hz - low) / (centre - low), (high - hz) / (high - centre))
    return np.asarray(np.maximum(triangles, 0) * 2 / (high - low))


def _mel(hz: float) -> float:
    return float(15 + 27 * np.log(hz / 1000) / np.log(6.4)) if hz > 1000 else hz * 3 / 200


def _hz(mel: np.ndarray) -> np.ndarray:
    return np.where(mel > 15, 1000 * np.exp((mel - 15) * np.log(6.4) / 27), mel * 200 / 3)


def _mel_fft(sample_rate: int) -> int:
    """The power of two that lasts 40 ms or more: 1024 at 16 to 24 kHz, 2048 at 32 to 48 kHz."""
    if not sample_rate >= LOWEST_RATE:
        raise ValueError(f"a sample rate of {sample_rate} Hz, at least {LOWEST_RATE} is needed")
    return 1 << int(np.ceil(np.log2(0.04 * sample_rate)))


def _log_mel(signal: np.ndarray, sample_rate: int) -> np.ndarray:
    """[samples] → [frames, bands]: ln of the mean magnitude in each band, relative to a full-scale sine."""
    n_fft = _mel_fft(sample_rate)
    mean = mel_filterbank(sample_rate, n_fft) * (sample_rate / n_fft)
    return np.asarray(np.log(np.maximum(_full_scale(signal, n_fft, n_fft // 4) @ mean.T, 10 ** (FLOOR_DB / 20))))


def _stft_loss(x: np.ndarray, r: np.ndarray, n_fft: int, hop: int, window: int) -> float:
    least = np.sqrt(LEAST_POWER)
    a, b = (np.maximum(_magnitudes(signal, n_fft, hop, window), least) for signal in (x, r))
    return float(np.linalg.norm(b - a) / np.linalg.norm(b) + np.abs(np.log(b / a)).mean())


def _decibels(magnitudes: np.ndarray, floor_db: float) -> np.ndarray:
    return np.asarray(20 * np.log10(np.maximum(magnitudes, 10 ** (floor_db / 20))))


def _full_scale(signal: np.ndarray, n_fft: int, hop: int) -> np.ndarray:
    """Magnitudes of which a sine of amplitude 1 reaches 1: a Hann window sums to n_fft/2, a sine has two halves."""
    return _magnitudes(signal, n_fft, hop, n_fft) * 4 / n_fft


def _magnitudes(signal: np.ndarray, n_fft: int, hop: int, window: int) -> np.ndarray:
    """[samples] → [1 + samples//hop, n_fft/2+1]: |torch.stft| under a periodic Hann window,
    in float64 as the window is.

    Frames are centred at multiples of `hop`, the edges reflected. A window shorter than the transform is cut out
    alone: where it stands in the transform changes the phase only.
    """
    padded = np.pad(signal, n_fft // 2, mode="reflect")[(n_fft - window) // 2 :]
    frames = np.lib.stride_tricks.sliding_window_view(padded, window)[::hop][: 1 + len(signal) // hop]
    return np.abs(np.fft.rfft(frames * np.hanning(window + 1)[:-1], n_fft))


def _mean_over_rows(
    distance: Callable[[np.ndarray, np.ndarray], float], x: np.ndarray, r: np.ndarray, shortest: int
) -> float:
    """The mean of `distance` over the rows of two checked signals."""
    _check(x, r, shortest)
    rows = zip(x.reshape(-1, x.shape[-1]), r.reshape(-1, r.shape[-1]), strict=True)
    return float(np.mean([distance(a, b) for a, b in rows]))


def _check(x: np.ndarray, r: np.ndarray, shortest: int) -> None:
    if x.shape != r.shape:
        raise ValueError(f"shape {list(x.shape)}, the reference has {list(r.shape)}")
    if not x.size or x.shape[-1:] < (shortest,):
        raise ValueError(f"shape {list(x.shape)}, at least one row of {shortest} samples is needed")
    for signal, name in ((x, "the signal"), (r, "the reference")):
        if not np.issubdtype(signal.dtype, np.floating):
            raise ValueError(f"{name} has dtype {signal.dtype}, floating point of full scale 1 is needed")
        if unusable := int((~np.isfinite(signal)).sum()):
            raise ValueError(f"{name} has {unusable} values that are not finite")
