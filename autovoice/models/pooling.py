"""From one vector a position to one vector a row."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class MaskedMean(nn.Module):
    """Mean over positions that a mask lets count, scaled to length 1."""

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """[batch, positions, channels] and [batch, positions], nonzero where it counts → [batch, channels]."""
        weights = (mask != 0).unsqueeze(-1).to(hidden.dtype)
        mean = (hidden * weights).sum(1) / weights.sum(1).clamp(min=1)
        return torch.nn.functional.normalize(mean, dim=-1)
