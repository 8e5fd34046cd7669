"""Multiply-accumulates against numbers worked out by hand."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from autovoice.measure.macs import macs
from tests.onnx_models import INT64, model, node, saved, value

Shape = tuple[int, ...]


def counted(path: Path, made: onnx.ModelProto, **sizes: Shape) -> dict[str, int]:
    return macs(saved(made, path / "m.onnx"), {n: np.ones(s, np.float32) for n, s in sizes.items()})


def single(
    op: str, x: Shape, w: Shape, weight: bool = True, **attributes: Any
) -> tuple[onnx.ModelProto, dict[str, Shape]]:
    """One node `the` of x and w; w is a weight, or an input as well. No size is known to the file."""
    inputs = {"x": x} if weight else {"x": x, "w": w}
    rank = np.matmul(np.ones(x), np.ones(w)).ndim if op == "MatMul" else len(x)
    made = model(
        [node(op, "x w", "y", "the", **attributes)],
        [value(n, *(f"{n}{i}" for i in range(len(s)))) for n, s in inputs.items()],
        [value("y", *(f"y{i}" for i in range(rank)))],
        {"w": np.ones(w, np.float32)} if weight else None,
    )
    return made, inputs


CONVOLUTIONS: Mapping[str, tuple[str, Shape, Shape, dict[str, Any], int]] = {
    # outputs times inputs / group times kernel
    "plain": ("Conv", (1, 3, 9), (5, 3, 3), {}, 5 * 7 * 3 * 3),
    "padded": ("Conv", (1, 3, 9), (5, 3, 3), {"pads": [1, 1]}, 5 * 9 * 3 * 3),
    "strided": ("Conv", (1, 3, 9), (5, 3, 3), {"strides": [2]}, 180),
    "dilated": ("Conv", (1, 3, 9), (5, 3, 3), {"dilations": [2]}, 225),
    "depthwise": ("Conv", (1, 4, 10), (4, 1, 3), {"group": 4}, 96),
    "a batch": ("Conv", (3, 4, 10), (4, 1, 3), {"group": 4}, 3 * 96),
    "2-D in groups": ("Conv", (2, 4, 5, 6), (6, 2, 3, 3), {"group": 2, "pads": [1, 1, 1, 1]}, 6480),
    "2-D strided and dilated": ("Conv", (1, 2, 7, 8), (3, 2, 3, 2), {"strides": [2, 1], "dilations": [1, 2]}, 648),
    # inputs times outputs / group times kernel
    "transposed": ("ConvTranspose", (2, 4, 5), (4, 3, 6), {}, 720),
    "transposed strided": ("ConvTranspose", (2, 4, 5), (4, 3, 6), {"strides": [2], "pads": [2, 2]}, 720),
    "transposed in groups": ("ConvTranspose", (1, 4, 5), (4, 3, 2), {"group": 2}, 4 * 5 * 3 * 2),
    "transposed 2-D": ("ConvTranspose", (1, 2, 3, 4), (2, 5, 2, 2), {"strides": [2, 2]}, 480),
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolutions(tmp_path: Path, name: str) -> None:
    op, x, w, attributes, expected = CONVOLUTIONS[name]
    made, sizes = single(op, x, w, **attributes)
    assert counted(tmp_path, made, **sizes) == {"the": expected}


PRODUCTS: Mapping[str, tuple[Shape, Shape, int]] = {
    "matrices": ((7, 4), (4, 3), 84),
    "a stack and a matrix": ((2, 7, 4), (4, 3), 168),
    "two stacks": ((2, 3, 5, 4), (2, 3, 4, 6), 720),
    "a matrix and a stack": ((5, 4), (3, 4, 6), 360),
    "stacks that broadcast": ((2, 1, 5, 4), (3, 4, 6), 720),
    "a vector and a matrix": ((4,), (4, 6), 24),
    "a matrix and a vector": ((5, 4), (4,), 20),
    "two vectors": ((4,), (4,), 4),
}


@pytest.mark.parametrize("weight", [True, False], ids=["weight", "two activations"])
@pytest.mark.parametrize("name", PRODUCTS)
def test_matrix_products(tmp_path: Path, name: str, weight: bool) -> None:
    x, w, expected = PRODUCTS[name]
    made, sizes = single("MatMul", x, w, weight)
    assert counted(tmp_path, made, **sizes) == {"the": expected}


def test_a_weight_on_the_left(tmp_path: Path) -> None:
    nodes = [node("MatMul", "w x", "y", "the")]
    made = model(nodes, [value("x", 4, "n")], [value("y", 6, "n")], {"w": np.ones((6, 4), np.float32)})
    assert counted(tmp_path, made, x=(4, 5)) == {"the": 6 * 5 * 4}


@pytest.mark.parametrize("a", [0, 1])
@pytest.mark.parametrize("b", [0, 1])
def test_gemm_transposed_or_not(tmp_path: Path, a: int, b: int) -> None:
    x, w = (4, 3) if a else (3, 4), (5, 4) if b else (4, 5)
    made, sizes = single("Gemm", x, w, transA=a, transB=b)
    assert counted(tmp_path, made, **sizes) == {"the": 60}


def chain() -> onnx.ModelProto:
    """Two nodes that count, between others that do not; sizes are dynamic."""
    weights = {"w": np.ones((6, 4, 3), np.float32), "v": np.ones((6, 2), np.float32)}
    nodes = [
        node("Conv", "x w", "a", "conv", pads=[1, 1]),
        node("Relu", "a", "b"),
        node("Transpose", "b", "c", perm=[0, 2, 1]),
        node("MatMul", "c v", "y", "product"),
    ]
    return model(nodes, [value("x", "n", 4, "t")], [value("y", "n", "t", 2)], weights)


@pytest.mark.parametrize(("n", "t"), [(1, 1), (1, 10), (3, 7)])
def test_sizes_are_those_of_the_feeds(tmp_path: Path, n: int, t: int) -> None:
    assert counted(tmp_path, chain(), x=(n, 4, t)) == {"conv": n * t * 72, "product": n * t * 12}


def test_the_file_stays_as_it_was(tmp_path: Path) -> None:
    path = saved(chain(), tmp_path / "m.onnx")
    before = path.read_bytes()
    macs(path, {"x": np.ones((1, 4, 5), np.float32)})
    assert path.read_bytes() == before


def test_products_of_integers_do_not_count(tmp_path: Path) -> None:
    nodes = [node("MatMul", "i j", "k"), node("MatMul", "x w", "y", "the")]
    inputs = [value("x", "n", 4), value("i", 2, 2, dtype=INT64), value("j", 2, 2, dtype=INT64)]
    outputs = [value("y", "n", 3), value("k", 2, 2, dtype=INT64)]
    path = saved(model(nodes, inputs, outputs, {"w": np.ones((4, 3), np.float32)}), tmp_path / "m.onnx")
    ids = np.ones((2, 2), np.int64)
    assert macs(path, {"x": np.ones((5, 4), np.float32), "i": ids, "j": ids}) == {"the": 60}


def test_nothing_that_counts(tmp_path: Path) -> None:
    made = model([node("Tanh", "x", "y")], [value("x", "n")], [value("y", "n")])
    assert counted(tmp_path, made, x=(3,)) == {}
