"""One class a mistake. All take x float32 [n, length, 8] unless they say otherwise."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor, nn


class Right(nn.Module):
    """Nothing is wrong here: what goes on while the others fail."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * x


class RaisesInInit(nn.Module):
    def __init__(self, layers: int) -> None:
        super().__init__()
        raise ValueError(f"no layer count like {layers}")

    def forward(self, x: Tensor) -> Tensor:
        return x


class RaisesInForward(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        raise RuntimeError("the wheels came off")


class BranchesOnData(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        if x.sum() > 0:
            return x + 1
        return x - 1


class CountsData(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        for _ in range(int(x.abs().sum().item())):
            x = x + 1
        return x


class FreezesAxis(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(2, 6, 8) + 1


class FreezesByTable(nn.Module):
    """A stored length: right at the traced size, wrong at any other."""

    def __init__(self) -> None:
        super().__init__()
        self.position = nn.Parameter(torch.ones(6, 8))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.position


class FreezesByLoop(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([x[:, i] * i for i in range(int(x.shape[1]))], 1)


class ReturnsHalf(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.half()


class ReturnsTransposed(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.transpose(1, 2).contiguous()


class ReturnsLonger(nn.Module):
    """[n, 2*length + 1, 8] where [n, 2*length, 8] is declared."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, x, x[:, :1]], 1)


class ReturnsTwice(nn.Module):
    """[n, 2*length, 8] where [n, length + 6, 8] is declared: the same at the traced length of 6."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, x], 1)


class ReturnsTwo(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x, x


class ReturnsList(nn.Module):
    def forward(self, x: Tensor) -> list[list[float]]:
        return [[1.0]]


class ReturnsNan(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.log(-x.abs() - 1)


class OtherArguments(nn.Module):
    def forward(self, y: Tensor) -> Tensor:
        return y


class NeedsMore(nn.Module):
    def forward(self, x: Tensor, scale: Tensor) -> Tensor:
        return x * scale


class RewritesWeights(nn.Module):
    """Puts another checkpoint in the place of its own while it is being made, as a training run may."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(8))
        part = Path(f"{path}.{os.getpid()}")
        part.write_bytes(save({"scale": torch.full((8,), 3.0)}))
        part.replace(path)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale


def not_a_module() -> dict[str, int]:
    return {}
