"""Pitch encoder: f0 and voicing of every frame to features."""

from __future__ import annotations

from math import log, sqrt

import torch
from torch import Tensor, nn

from autovoice.models.layers import ResidualConv


def mel(hertz: float) -> float:
    """1127 ln(1 + f / 700), the scale on which singers' pitch is quantized."""
    return 1127 * log(1 + hertz / 700)


class PitchEncoder(nn.Module):
    """Embeds quantized pitch and the voiced flag, then smooths over time; about 0.5 M parameters.

    Bin 0 stands for unvoiced; bins 1 to `bins` - 1 cover `f0_min` to `f0_max` evenly in mel, and pitch
    outside that range takes the nearest of them.
    """

    def __init__(
        self,
        channels: int = 192,
        bins: int = 256,
        f0_min: float = 50.0,
        f0_max: float = 1100.0,
        kernel_size: int = 3,
        n_blocks: int = 2,
    ) -> None:
        super().__init__()
        self.f0_min, self.f0_max = f0_min, f0_max
        self.lowest = mel(f0_min)
        self.bins_per_mel = (bins - 2) / (mel(f0_max) - mel(f0_min))
        self.emb_pitch = nn.Embedding(bins, channels)
        self.emb_uv = nn.Embedding(2, channels)
        gain = 1 / sqrt(n_blocks)
        self.prenet = nn.Sequential(*(ResidualConv(channels, kernel_size, gain) for _ in range(n_blocks)))
        for embedding in (self.emb_pitch, self.emb_uv):
            nn.init.normal_(embedding.weight, std=sqrt(0.5))  # their sum has unit variance

    def forward(self, f0_input: Tensor, voiced_mask: Tensor) -> Tensor:
        """f32 [B, frames] in Hz, bool [B, frames] → [B, frames, channels]."""
        embedded = self.emb_pitch(self.pitch_bin(f0_input, voiced_mask)) + self.emb_uv(voiced_mask.int())
        return self.prenet(embedded.transpose(1, 2)).transpose(1, 2)

    def pitch_bin(self, f0: Tensor, voiced: Tensor) -> Tensor:
        """int32 [B, frames] in 0 … bins - 1."""
        # Half precision is coarser than a bin from 500 mel up: keep this arithmetic in float32.
        pitch = 1127 * torch.log(1 + f0.clamp(self.f0_min, self.f0_max) / 700)
        bins = torch.round((pitch - self.lowest) * self.bins_per_mel + 1)
        # Selecting after the arithmetic keeps out whatever a tracker writes into unvoiced frames, NaN too.
        return torch.where(voiced, bins, 0.0).int()
