"""Token ids to features."""

from __future__ import annotations

from torch import Tensor, nn


class Embedder(nn.Module):
    """ids int64 [n, length], present bool [n, length] → features float32 [n, length, width]."""

    def __init__(self, vocabulary: int, width: int) -> None:
        super().__init__()
        self.table = nn.Embedding(vocabulary, width)
        self.mix = nn.Linear(width, width)

    def forward(self, ids: Tensor, present: Tensor) -> Tensor:
        return self.mix(self.table(ids)) * present.unsqueeze(-1).to(self.table.weight.dtype)
