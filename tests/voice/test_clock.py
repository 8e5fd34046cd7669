from __future__ import annotations

from fractions import Fraction
from math import ceil

import numpy as np
import pytest

from autovoice.voice.clock import frame_count, frame_times, output_length

RATES = (8000, 11025, 16000, 22050, 32000, 44100, 48000, 96000)


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("seconds", [1, 2, 3, 60, 3600])
def test_frame_count_depends_on_the_duration_alone(rate: int, seconds: int) -> None:
    assert frame_count(seconds * rate, rate, 22050, 256) == ceil(Fraction(seconds * 22050, 256))


@pytest.mark.parametrize(("samples", "frames"), [(0, 0), (1, 1), (256, 1), (257, 2), (512, 2), (256 * 10**9, 10**9)])
def test_a_started_frame_counts_and_an_exact_multiple_gains_none(samples: int, frames: int) -> None:
    assert frame_count(samples, 22050, 22050, 256) == frames


@pytest.mark.parametrize("samples", [1, 441, 12345, 10**6 + 1])
def test_both_hops_of_one_frame_rate_agree(samples: int) -> None:
    assert frame_count(samples, 48000, 44100, 512) == frame_count(samples, 48000, 22050, 256)


@pytest.mark.parametrize(
    ("samples", "source", "output", "expected"),
    [
        (44100, 44100, 48000, 48000),
        (1, 2, 1, 1),
        (1, 44100, 16000, 0),
        (3, 2, 1, 2),
        (10**12, 44100, 44100, 10**12),
    ],
)
def test_output_length_rounds_halves_up(samples: int, source: int, output: int, expected: int) -> None:
    assert output_length(samples, source, output) == expected


@pytest.mark.parametrize("rate", RATES)
def test_frames_always_cover_the_output(rate: int) -> None:
    for samples in range(1, 3000, 7):
        covered = output_length(256 * frame_count(samples, rate, 22050, 256), 22050, 44100)
        assert covered >= output_length(samples, rate, 44100)


def test_frames_are_centred_on_their_hop() -> None:
    np.testing.assert_allclose(frame_times(3, 22050, 256), np.array([128, 384, 640]) / 22050)


@pytest.mark.parametrize("rates", [(0, 22050, 256), (44100, 0, 256), (44100, 22050, 0)])
def test_rates_are_positive(rates: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="must be positive, got 0"):
        frame_count(100, *rates)
