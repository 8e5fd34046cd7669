"""Modules that draw numbers or keep state, and modules that only look like it."""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from autovoice.errors import ExportError
from autovoice.modules.determinism import repeatable

X = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(1))
STATE = "make it an input and an output: an engine keeps nothing between calls"


class Noisy(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + 0.3 * torch.randn_like(x)


class SeedsItself(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        torch.manual_seed(0)
        return x * torch.rand(8)


class Drops(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(x, 0.5)


class DrawsByNumpy(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + float(np.random.rand())


class Streaming(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Module()
        self.inner.register_buffer("cache", torch.zeros(1, 5, 8), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        y = x + self.inner.cache
        self.inner.cache = x[:1].clone()
        return y


class InPlace(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("total", torch.zeros(8))

    def forward(self, x: Tensor) -> Tensor:
        assert isinstance(self.total, Tensor)
        self.total += x.sum((0, 1))
        return x - self.total


class Learns(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(8), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        self.weight.add_(1)
        return x * self.weight


class Remembers(nn.Module):
    """In a plain attribute, which is no part of the module's state."""

    def __init__(self) -> None:
        super().__init__()
        self.last: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        y = x if self.last is None else x + self.last
        self.last = x.clone()
        return y


class Collects(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(x)
        return x * len(self.seen)


class OnlyOnce(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.left = 1

    def forward(self, x: Tensor) -> Tensor:
        self.left -= 1
        return x * torch.ones(8 if self.left == 0 else 9)


@pytest.mark.parametrize(
    ("module", "fact", "fix"),
    [
        (Noisy(), r"forward() of Noisy is random (randn_like, test_determinism.py:#)", "make the noise an input"),
        (SeedsItself(), "forward() of SeedsItself is random (rand, test_determinism.py:#)", "make the noise an input"),
        (
            nn.Sequential(nn.Linear(8, 8), Drops()),
            "forward() of Sequential is random (dropout, test_determinism.py:#)",
            "F.dropout(x, p, training=self.training), or make the noise an input",
        ),
        (
            DrawsByNumpy(),
            "forward() of DrawsByNumpy is random (numbers of numpy's or Python's generator)",
            "make the noise an input",
        ),
        (Streaming(), "forward() of Streaming changes buffer 'inner.cache', and its outputs with it", STATE),
        (InPlace(), "forward() of InPlace changes buffer 'total', and its outputs with it", STATE),
        (Learns(), "forward() of Learns changes parameter 'weight', and its outputs with it", STATE),
        (Remembers(), "forward() of Remembers changes attribute 'last', and its outputs with it", STATE),
        (Collects(), "forward() of Collects changes attribute 'seen', and its outputs with it", STATE),
        (
            OnlyOnce(),
            "forward() of OnlyOnce raised RuntimeError: The size of tensor a (8) must match the size of tensor b (9) "
            "at non-singleton dimension 2, but only when called once more",
            STATE,
        ),
    ],
    ids=lambda v: type(v).__name__ if isinstance(v, nn.Module) else "",
)
def test_what_no_engine_can_do(module: nn.Module, fact: str, fix: str) -> None:
    with pytest.raises(ExportError) as e:
        called(module)
    assert (re.sub(r"py:\d+", "py:#", e.value.fact), e.value.fix) == (fact, fix)


def test_the_line_is_the_one_that_draws() -> None:
    with pytest.raises(ExportError) as e:
        called(Noisy())
    line = int(e.value.fact.rpartition(":")[2].rstrip(")"))
    with open(__file__) as file:
        assert "torch.randn_like(x)" in file.read().splitlines()[line - 1]


class NoiseOfNoEffect(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + 0.0 * torch.randn_like(x)


class Table(nn.Module):
    """Rotary and positional tables grow when a longer input comes."""

    table: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("table", torch.zeros(0, 8), persistent=False)
        self.memo: dict[int, Tensor] = {}

    def forward(self, x: Tensor) -> Tensor:
        if len(self.table) < x.shape[1]:
            self.table = torch.arange(x.shape[1] * 8.0).reshape(-1, 8)
        self.memo[x.shape[1]] = self.table
        return x + self.table[: x.shape[1]]


class Overwrites(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mul_(2) + 1


class Rewrites(nn.Module):
    """The same values, every time."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("window", torch.hann_window(8))

    def forward(self, x: Tensor) -> Tensor:
        self.window = torch.hann_window(8)
        return x * self.window


class Attends(nn.Module):
    """An operator that may draw, and does not."""

    def forward(self, x: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(x, x, x)


class Recurs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(8, 8, 2, dropout=0.5)

    def forward(self, x: Tensor) -> Tensor:
        got: Tensor = self.rnn(x)[0]
        return got


class NotANumber(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.log(x)


FINE = [
    NoiseOfNoEffect(),
    Table(),
    Overwrites(),
    Rewrites(),
    Attends(),
    NotANumber(),
    nn.Sequential(nn.BatchNorm1d(5), nn.InstanceNorm1d(5), nn.Dropout(0.5)),
    Recurs(),
]


def called(module: nn.Module) -> tuple[Mapping[str, np.ndarray], list[str]]:
    local = "input" if isinstance(module, nn.Sequential) else "x"
    return repeatable(module.eval(), {local: X.clone()}, ["y"])


@pytest.mark.parametrize("module", FINE, ids=lambda m: type(m).__name__)
def test_what_repeats_itself_is_fine(module: nn.Module) -> None:
    first, notes = called(module)
    assert notes == []
    assert first["y"].shape == (2, 5, 8)


def test_answers_are_those_of_a_fresh_module_on_inputs_as_they_were() -> None:
    first, _ = called(Overwrites())
    assert np.array_equal(first["y"], 2 * X.numpy() + 1)


class Counts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        assert isinstance(self.calls, Tensor)
        self.calls += 1
        return 2 * x


def test_state_without_effect_is_a_note() -> None:
    assert called(Counts())[1] == ["forward() changes buffer 'calls', on which no output depends: the engine leaves it"]
