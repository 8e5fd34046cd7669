"""Mel projection: the flow's latent to the log-mel spectrogram HiFi-GAN vocoders read."""

from __future__ import annotations

from math import sqrt

from torch import Tensor, nn

from autovoice.models.layers import LOG_MEL_MEAN, LOG_MEL_STD, ResidualConv, scaled_normal_


class MelProjection(nn.Module):
    """Convolution, residual blocks, 1×1 convolution to mel bands; 1.4 M parameters as configured."""

    def __init__(
        self,
        channels: int = 192,
        hidden: int = 256,
        mel_channels: int = 80,
        kernel_size: int = 3,
        n_blocks: int = 3,
    ) -> None:
        super().__init__()
        self.pre = nn.Conv1d(channels, hidden, 5, padding=2)
        self.blocks = nn.Sequential(*(ResidualConv(hidden, kernel_size, 1 / sqrt(n_blocks)) for _ in range(n_blocks)))
        self.out = nn.Conv1d(hidden, mel_channels, 1)
        scaled_normal_(self.pre)
        growth = (1 + 1 / n_blocks) ** n_blocks  # of the variance through the blocks
        scaled_normal_(self.out, LOG_MEL_STD / sqrt(growth))
        nn.init.constant_(self.out.bias, LOG_MEL_MEAN)

    def forward(self, latent_input: Tensor) -> Tensor:
        """[B, channels, frames] → [B, mel_channels, frames], natural logarithm."""
        return self.out(self.blocks(self.pre(latent_input)))
