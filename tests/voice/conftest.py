"""Generated recordings, and a pipeline that records what it is fed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf

INPUTS = (
    "input_audio",
    "sample_rate",
    "f0_input",
    "voiced_mask",
    "speaker_embedding",
    "latent_input",
    "mask",
)


@dataclass(frozen=True)
class D:
    min: int
    opt: int
    max: int


@dataclass
class FakePipeline:
    """Gives a sine of the length that the contract promises."""

    dims: Mapping[str, D] = field(
        default_factory=lambda: {"frames": D(16, 256, 1024), "samples": D(4000, 47554, 190218)}
    )
    contract: Mapping[str, Any] = field(
        default_factory=lambda: {"sample_rate": 22050, "hop": 256, "content_sample_rate": 16000}
    )
    input_names: tuple[str, ...] = INPUTS
    output_names: tuple[str, ...] = ("audio_output",)
    respond: Callable[[int], np.ndarray] = lambda n: (0.5 * np.sin(np.arange(n) / 9)).astype(np.float32)
    shape: Callable[[int], tuple[int, ...]] = lambda n: (1, 1, n)
    fed: list[dict[str, np.ndarray]] = field(default_factory=list)

    def run(self, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        self.fed.append(feeds)
        samples = feeds["mask"].shape[-1] * int(self.contract["hop"])
        return {"audio_output": self.respond(samples).reshape(self.shape(samples))}


@pytest.fixture
def pipeline() -> Callable[..., FakePipeline]:
    return FakePipeline


@pytest.fixture
def bounds() -> type[D]:
    return D


def harmonic_tone(hz: float, seconds: float, rate: int, peak: float = 0.5) -> np.ndarray:
    """Harmonics that fall off as 1/k, below 3.5 kHz so that every rate from 8 kHz holds them all."""
    t = np.arange(round(seconds * rate)) / rate
    x = sum(np.sin(2 * np.pi * hz * k * t + k) / k for k in range(1, 9) if hz * k < 3500)
    return (peak * x / np.max(np.abs(x))).astype(np.float32)


@pytest.fixture
def tone() -> Callable[..., np.ndarray]:
    return harmonic_tone


@pytest.fixture
def recording(tmp_path: Path) -> Callable[..., Path]:
    """Write samples [n] or [n, channels] and return the path."""

    def write(x: np.ndarray, rate: int, name: str = "in.wav", subtype: str = "FLOAT") -> Path:
        path = tmp_path / name
        sf.write(path, x, rate, subtype=subtype)
        return path

    return write
