"""What operations of PyTorch are counted as convolutions and products, seen in and outside of inference mode."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from autovoice.backends.torch.count import CountOperations  # noqa: E402

F = torch.nn.functional
MAKERS: dict[str, Callable[[], Callable[[], Any]]] = {
    "conv": lambda: _called(torch.nn.Conv1d(4, 4, 3, padding="same"), (1, 4, 9)),
    "linear": lambda: _called(torch.nn.Linear(4, 5), (2, 3, 4)),
    "attention": lambda: _called(lambda x: F.scaled_dot_product_attention(x, x, x), (1, 2, 8, 4)),
    "lstm": lambda: _called(torch.nn.LSTM(4, 6), (5, 1, 4)),
    "gru": lambda: _called(torch.nn.GRU(4, 6), (5, 1, 4)),
}


def _called(module: Any, shape: tuple[int, ...]) -> Callable[[], Any]:
    x = torch.rand(shape)
    return lambda: module(x)


@pytest.mark.parametrize("without_gradients", [torch.inference_mode, torch.no_grad], ids=["inference", "no_grad"])
@pytest.mark.parametrize("kind", MAKERS)
def test_it_is_seen(kind: str, without_gradients: Any) -> None:
    call, mode = MAKERS[kind](), CountOperations()
    with mode, without_gradients():
        call()
    assert mode.heavy["float32"] >= 1
    assert set(mode.heavy) == {"float32"}


def test_what_multiplies_nothing_is_not() -> None:
    mode = CountOperations()
    with mode, torch.no_grad():
        torch.tanh(torch.rand(3)) + 1
    assert mode.heavy == {}
    assert mode.counts["float32"] >= 2
