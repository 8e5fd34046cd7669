"""Mono float32 arrays as recordings: wav or flac, whole or not at all."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile as sf

from autovoice.errors import AudioError, StoreError, choices
from autovoice.store.output import Output
from autovoice.voice.audio import LIBRARY_ERRORS, Samples, refuse_non_finite

WRITABLE = {".wav": "WAV", ".flac": "FLAC"}


@dataclass(frozen=True)
class Written:
    """What became of a signal on its way to a file: its `peak` before scaling, and whether it was scaled."""

    peak: float
    scaled: bool


def check_writable(output: Output, subtype: str = "PCM_16") -> None:
    """Raise AudioError unless a recording could be written there, judging by its suffix, folder and what exists."""
    path = output.path
    if path.suffix.lower() not in WRITABLE:
        raise AudioError(
            f"{path}: no format is known for the suffix '{path.suffix}'", f"use one of {choices(WRITABLE)}"
        )
    kind = WRITABLE[path.suffix.lower()]
    if not sf.check_format(kind, subtype):
        possible = choices(sf.available_subtypes(kind))
        raise AudioError(f"{path}: {kind} has no encoding {subtype}", f"use one of {possible}")
    fault = output.fault()
    if fault is not None:
        raise AudioError(f"{fault.where}: {fault.fact}", fault.fix)


def write_audio(output: Output, x: Samples, rate: int, subtype: str = "PCM_16") -> Written:
    """Write mono `x` float32 [n] at `rate` Hz as wav or flac, by the suffix of the output's path.

    A signal that exceeds ±1 is scaled to a peak of 1 instead of being clipped; the result says so, for the
    caller to report. The file appears whole or not at all. Raises AudioError for an unknown suffix or
    encoding, a folder that is missing or not writable, samples that are not finite, and a full disk.
    """
    check_writable(output, subtype)
    refuse_non_finite(output.path, x)
    peak = float(np.max(np.abs(x), initial=0.0))
    scaled = peak > 1.0
    content = _encode(output.path, x / np.float32(peak) if scaled else x, rate, subtype)
    try:
        with output.open() as file:
            file.write(content)
    except StoreError as error:
        raise AudioError(error.fact, error.fix) from error
    return Written(peak, scaled)


def _encode(path: Path, x: Samples, rate: int, subtype: str) -> bytes:
    """Encode in memory: then writing is Python's own, and a full disk is an OSError, not a short file."""
    buffer = io.BytesIO()
    try:
        sf.write(buffer, x, rate, format=WRITABLE[path.suffix.lower()], subtype=subtype)
    except LIBRARY_ERRORS as error:
        raise AudioError(
            f"{path}: cannot be encoded at {rate} Hz ({error})", "choose another rate or suffix"
        ) from error
    return buffer.getvalue()
