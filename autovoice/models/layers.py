"""Blocks and initial weights that several reference components share."""

from __future__ import annotations

from math import sqrt

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# Location and spread of ln(max(mel, 1e-5)) over recorded singing, where untrained weights aim.
LOG_MEL_MEAN = -5.0
LOG_MEL_STD = 2.0

LEAKY_SLOPE = 0.1
# Keeps variance through a leaky ReLU of a zero-mean normal: E[a²] = (1 + slope²) / 2.
LEAKY_GAIN = sqrt(2 / (1 + LEAKY_SLOPE**2))


def scaled_normal_(layer: nn.Conv1d | nn.ConvTranspose1d | nn.Linear, gain: float = 1.0) -> None:
    """Fill in place: weights N(0, gain² / fan-in), bias zero, so that unit inputs give variance gain².

    PyTorch's own default gives a third of that, which a deep stack turns into silence; the parity of
    a silent model says nothing.
    """
    nn.init.normal_(layer.weight, std=gain / sqrt(_fan_in(layer)))
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


def _fan_in(layer: nn.Conv1d | nn.ConvTranspose1d | nn.Linear) -> float:
    """Products summed into one output value."""
    if isinstance(layer, nn.ConvTranspose1d):
        # An output sample is reached by kernel / stride taps only, and the weight is [in, out, kernel].
        return float(layer.in_channels * layer.kernel_size[0] / layer.stride[0])
    return float(layer.weight[0].numel())


class ResidualConv(nn.Module):
    """x + conv(act(conv(act(x)))) on [B, channels, T]; the branch adds `branch_gain²` of x's variance."""

    def __init__(self, channels: int, kernel_size: int, branch_gain: float) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(channels, channels, kernel_size, padding="same")
        self.conv2 = nn.Conv1d(channels, channels, kernel_size, padding="same")
        scaled_normal_(self.conv1, LEAKY_GAIN)
        scaled_normal_(self.conv2, LEAKY_GAIN * branch_gain)

    def forward(self, x: Tensor) -> Tensor:
        branch = self.conv1(F.leaky_relu(x, LEAKY_SLOPE))
        return x + self.conv2(F.leaky_relu(branch, LEAKY_SLOPE))


class RateModulation(nn.Module):
    """Features [B, T, C] scaled and shifted per channel by log2(sample_rate / 16000).

    The nominal rate gives exponent zero, so weights trained without the modulation keep their meaning.
    """

    NOMINAL_RATE = 16000

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.randn(channels) * 0.25)
        self.shift = nn.Parameter(torch.randn(channels) * 0.25)

    def forward(self, features: Tensor, sample_rate: Tensor) -> Tensor:
        """`sample_rate` int32 [1] in Hz."""
        # Rates in use are multiples of 25 Hz; in that unit 192 kHz still fits into half precision.
        octaves = torch.log2((sample_rate // 25).to(features.dtype) / (self.NOMINAL_RATE // 25))
        return features * (1 + self.scale * octaves) + self.shift * octaves
