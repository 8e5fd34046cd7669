"""Vocoder: log-mel spectrogram to waveform."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import sqrt

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from autovoice.models.layers import LEAKY_GAIN, LEAKY_SLOPE, LOG_MEL_MEAN, LOG_MEL_STD, scaled_normal_

BRANCH_GAIN = 0.6  # of a residual branch at the start: variance grows by 1.36 a pair, not by 2
AUDIO_RMS = 0.15


class HifiganVocoder(nn.Module):
    """HiFi-GAN V1 generator (arXiv:2010.05646, section 2.2) with the parameter names of its public code.

    13.9 M parameters as configured. The hop is the product of `upsample_rates`: 256 samples, or 512 with
    rates (8, 8, 2, 2, 2) and kernels (16, 16, 4, 4, 4). Channels halve at every stage.
    """

    def __init__(
        self,
        upsample_rates: Sequence[int] = (8, 8, 2, 2),
        upsample_kernel_sizes: Sequence[int] = (16, 16, 4, 4),
        upsample_initial_channel: int = 512,
        resblock_kernel_sizes: Sequence[int] = (3, 7, 11),
        resblock_dilation_sizes: Sequence[Sequence[int]] = ((1, 3, 5),) * 3,
        mel_channels: int = 80,
    ) -> None:
        super().__init__()
        stages = list(zip(upsample_rates, upsample_kernel_sizes, strict=True))
        kinds = list(zip(resblock_kernel_sizes, resblock_dilation_sizes, strict=True))
        _check_stages(stages, upsample_initial_channel)
        widths = [upsample_initial_channel >> stage for stage in range(len(stages) + 1)]
        self.conv_pre = nn.Conv1d(mel_channels, widths[0], 7, padding=3)
        self.ups = nn.ModuleList(
            nn.ConvTranspose1d(wide, narrow, kernel, rate, padding=(kernel - rate) // 2)
            for (wide, narrow), (rate, kernel) in zip(pairwise(widths), stages, strict=True)
        )
        self.resblocks = nn.ModuleList(
            ResBlock(width, kernel, dilations) for width in widths[1:] for kernel, dilations in kinds
        )
        self.conv_post = nn.Conv1d(widths[-1], 1, 7, padding=3)
        self._initialise(kinds)

    def _initialise(self, kinds: Sequence[tuple[int, Sequence[int]]]) -> None:
        """Unit variance before every stage, `AUDIO_RMS` before the tanh, for mel of the usual spread."""
        with torch.no_grad():
            scaled_normal_(self.conv_pre, 1 / LOG_MEL_STD)
            self.conv_pre.bias.copy_(-LOG_MEL_MEAN * self.conv_pre.weight.sum((1, 2)))
            # Blocks of a stage share their input and add independent branches to it.
            added = [(1 + BRANCH_GAIN**2) ** len(dilations) - 1 for _, dilations in kinds]
            growth = 1 + sum(added) / len(kinds) ** 2
            for up in self.ups:
                scaled_normal_(up, LEAKY_GAIN / sqrt(growth))
            scaled_normal_(self.conv_post, AUDIO_RMS * LEAKY_GAIN)
            # Taps that sum to zero pass no offset: random rectified features have one, audio has none.
            self.conv_post.weight -= self.conv_post.weight.mean(2, keepdim=True)

    def forward(self, mel_input: Tensor) -> Tensor:
        """[B, mel_channels, frames], natural logarithm → [B, 1, hop · frames] in -1 … 1."""
        per_stage = len(self.resblocks) // len(self.ups)
        x = self.conv_pre(mel_input)
        for stage, up in enumerate(self.ups):
            x = up(F.leaky_relu(x, LEAKY_SLOPE))
            blocks = self.resblocks[stage * per_stage : (stage + 1) * per_stage]
            outputs = [block(x) for block in blocks]
            x = sum(outputs[1:], start=outputs[0]) / per_stage
        # The public code leaves this slope at PyTorch's default, 0.01, unlike all the others.
        return torch.tanh(self.conv_post(F.leaky_relu(x)))


class ResBlock(nn.Module):
    """Pairs of a dilated and a plain convolution, each pair a residual branch."""

    def __init__(self, channels: int, kernel_size: int, dilations: Sequence[int]) -> None:
        super().__init__()
        self.convs1 = nn.ModuleList(
            nn.Conv1d(channels, channels, kernel_size, dilation=dilation, padding=(kernel_size - 1) * dilation // 2)
            for dilation in dilations
        )
        self.convs2 = nn.ModuleList(
            nn.Conv1d(channels, channels, kernel_size, padding=(kernel_size - 1) // 2) for _ in dilations
        )
        for conv in self.convs1:
            scaled_normal_(conv, LEAKY_GAIN)
        for conv in self.convs2:
            scaled_normal_(conv, LEAKY_GAIN * BRANCH_GAIN)

    def forward(self, x: Tensor) -> Tensor:
        for dilated, plain in zip(self.convs1, self.convs2, strict=True):
            branch = dilated(F.leaky_relu(x, LEAKY_SLOPE))
            x = x + plain(F.leaky_relu(branch, LEAKY_SLOPE))
        return x


def _check_stages(stages: Sequence[tuple[int, int]], channels: int) -> None:
    """A stage multiplies the length by its rate exactly only if its padding is a whole number."""
    for rate, kernel in stages:
        if kernel < rate or (kernel - rate) % 2:
            raise ValueError(f"upsampling kernel {kernel} must exceed its rate {rate} by an even number")
    if channels % (1 << len(stages)):
        raise ValueError(f"upsample_initial_channel {channels} cannot be halved {len(stages)} times")
