"""Two outputs of one shape, which only their names or their order tell apart."""

from __future__ import annotations

from torch import Tensor, nn


class Split(nn.Module):
    """x → above, below; by position."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x + 1, x - 1


class SplitByName(nn.Module):
    """x → above, below; by name, in another order."""

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"below": x - 1, "above": x + 1}
