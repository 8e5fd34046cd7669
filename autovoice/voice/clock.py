"""The frame clock: one integer count of frames for a recording, whatever rate it was stored at.

Frame `i` of a model with hop `h` at rate `r` covers the output samples `[i*h, (i+1)*h)` and is centred on
`(i + 1/2)*h/r` seconds. That is where the centre of a HiFi-GAN mel frame lies as well: it is analysed without
centring after padding `(n_fft - h)/2` on each side, so its window is centred on `i*h + h/2`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def frame_count(samples: int, sample_rate: int, model_rate: int, hop: int) -> int:
    """Frames that cover a recording: `ceil(samples * model_rate / (sample_rate * hop))`.

    `samples` at `sample_rate` Hz is the source as it was stored; `hop` is in samples at `model_rate` Hz.
    Integer arithmetic throughout, so that an exact multiple of the hop never gains a frame by rounding and
    the count follows the duration alone.
    """
    _require_positive(sample_rate=sample_rate, model_rate=model_rate, hop=hop)
    return -(-samples * model_rate // (sample_rate * hop))


def output_length(samples: int, sample_rate: int, output_rate: int) -> int:
    """Samples of the same duration at `output_rate` Hz: `samples * output_rate / sample_rate`, halves up."""
    _require_positive(sample_rate=sample_rate, output_rate=output_rate)
    return (2 * samples * output_rate + sample_rate) // (2 * sample_rate)


def frame_times(frames: int, model_rate: int, hop: int) -> NDArray[np.float64]:
    """Centres of the frames in seconds, `[frames]`."""
    return (np.arange(frames, dtype=np.float64) + 0.5) * (hop / model_rate)


def _require_positive(**values: int) -> None:
    for name, value in values.items():
        if value <= 0:
            raise ValueError(f"{name} must be positive, got {value}")
