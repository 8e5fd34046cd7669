"""The speaker embedding that a conversion is steered by."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from autovoice.errors import AudioError
from autovoice.store.arrays import ArrayFault, ArrayFile, Header
from autovoice.voice.audio import Samples

SPEAKER_CHANNELS = 256
NEUTRAL = "zeros"
HOW = (
    f"give speaker=spk.npy, a float array [{SPEAKER_CHANNELS}] of a speaker encoder, saved by numpy.save; "
    f"or speaker={NEUTRAL} for a neutral one"
)


def read_speaker(speaker: Path | str | None) -> Samples:
    """Read an embedding as float32 [1, 256] from a `.npy` file of shape [256] or [1, 256].

    The word `zeros` is the neutral embedding. Raises AudioError when nothing is given, and for a file that is
    missing, is not a plain array (pickled objects are never loaded), or has another shape, type or NaN.
    """
    if speaker is None:
        raise AudioError("no speaker is given, and this pipeline has the input 'speaker_embedding'", HOW)
    if str(speaker) == NEUTRAL:
        return np.zeros((1, SPEAKER_CHANNELS), np.float32)
    path = Path(speaker)
    try:
        with ArrayFile(path) as file:
            _check(path, file.header)
            return _embedding(path, file.read())
    except ArrayFault as error:
        raise AudioError(f"speaker={path}: {error}", HOW) from error


def _check(path: Path, header: Header) -> None:
    if header.shape not in ((SPEAKER_CHANNELS,), (1, SPEAKER_CHANNELS)):
        wanted = f"[{SPEAKER_CHANNELS}] or [1, {SPEAKER_CHANNELS}]"
        raise AudioError(f"speaker={path}: has the shape {list(header.shape)}, needed is {wanted}", HOW)
    if header.dtype.kind not in "fiu":
        raise AudioError(f"speaker={path}: holds {header.dtype}, needed are real numbers", HOW)


def _embedding(path: Path, loaded: np.ndarray) -> Samples:
    with np.errstate(over="ignore", invalid="ignore"):
        embedding = np.array(loaded, dtype=np.float32).reshape(1, SPEAKER_CHANNELS)
    if not np.isfinite(embedding).all():
        raise AudioError(f"speaker={path}: holds values that are NaN or infinite in float32", HOW)
    return embedding
