"""Sums with a part of a large tensor, taken apart at once."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from tests.onnx_tools.passes.checks import model, node, ops, rewritten, value

SUMS = "split_before_sums"
W = np.random.default_rng(0).standard_normal((4, 3, 1), np.float32)


def gated(
    sizes: tuple[int, ...] = (2, 2),
    parts: tuple[int, ...] = (4, 4),
    axis: int = 1,
    more: tuple[str, ...] = (),
    made: str = "Conv",
) -> onnx.ModelProto:
    """Conv(x) + the first part of `c`, split; and the second part of `c` by itself."""
    names = [f"y{i}" for i in range(len(sizes))]
    nodes = [
        node("Conv", "x w", "h") if made == "Conv" else node("Relu", "x4", "h"),
        node("Split", "c c_sizes", "c0 c1", axis=1),
        node("Add", "h c0", "s"),
        node("Split", "s s_sizes", " ".join(names), axis=axis),
        *(node("Tanh", n, f"t_{n}") for n in names),
        node("Relu", "c1", "z"),
    ]
    inputs = [value("x", "B", 3, "T") if made == "Conv" else value("x4", "B", 4, "T"), value("c", "B", sum(parts), "T")]
    channels = [f"n_{n}" for n in names]
    outputs = [value(f"t_{n}", "B", k, "T") for n, k in zip(names, channels, strict=True)]
    outputs += [value("z", "B", "n_z", "T"), *(value(m, "B", 4, "T") for m in more)]
    constants = {"c_sizes": np.array(parts, np.int64), "s_sizes": np.array(sizes, np.int64)}
    return model(nodes, inputs, outputs, constants | ({"w": W} if made == "Conv" else {}))


def splits(made: onnx.ModelProto) -> list[int]:
    return sorted(len(n.output) for n in made.graph.node if n.op_type == "Split")


@pytest.mark.parametrize("sizes", [(2, 2), (1, 3), (1, 1, 2)], ids=str)
def test_the_sum_is_made_part_by_part(sizes: tuple[int, ...]) -> None:
    made = rewritten(gated(sizes), SUMS, 1, 0)
    assert ops(made) == {"Conv": 1, "Split": 2, "Add": len(sizes), "Tanh": len(sizes), "Relu": 1}
    assert splits(made) == sorted([len(sizes), len(sizes) + 1])


def test_the_order_of_the_sum_does_not_matter() -> None:
    turned = gated()
    add = next(n for n in turned.graph.node if n.op_type == "Add")
    add.input[:] = list(add.input)[::-1]
    assert splits(rewritten(turned, SUMS, 1, 0)) == [2, 3]


@pytest.mark.parametrize(
    "left",
    [
        gated(more=("s",)),
        gated(more=("c0",)),
        gated(sizes=(1,), axis=0),
        gated(made="Relu"),
    ],
    ids=["the sum is an output", "the part is an output", "split along the batch", "no convolution"],
)
def test_what_is_left_alone(left: onnx.ModelProto) -> None:
    sizes = (
        [{"B": 1, "T": 16}] if any(a.i == 0 for n in left.graph.node for a in n.attribute if a.name == "axis") else None
    )
    before = ops(left)
    made = rewritten(left, SUMS, 0, 0, sizes) if sizes else rewritten(left, SUMS, 0, 0)
    assert ops(made) == before
