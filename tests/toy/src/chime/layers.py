"""Layers that the synth alone uses."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Gain(nn.Module):
    """Scale every channel: [n, length, width] by [n, width]."""

    def forward(self, x: Tensor, gains: Tensor) -> Tensor:
        return x * (1 + 0.1 * torch.tanh(gains)).unsqueeze(1)
