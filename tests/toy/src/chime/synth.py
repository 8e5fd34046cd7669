"""Features to a signal of two samples a token, and the energy of each token."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from chime.layers import Gain


class Synth(nn.Module):
    """features float32 [n, length, width], gains float32 [n, width] → signal [n, 2*length], energy [n, length]."""

    def __init__(self, width: int, soft: bool = False) -> None:
        super().__init__()
        self.gain = Gain()
        self.rise = nn.ConvTranspose1d(width, 1, 2, stride=2)
        self.soft = soft

    def forward(self, features: Tensor, gains: Tensor) -> tuple[Tensor, Tensor]:
        x = self.gain(features, gains)
        signal = self.rise(x.transpose(1, 2)).squeeze(1)
        return (torch.tanh(signal) if self.soft else signal), x.square().mean(-1)
