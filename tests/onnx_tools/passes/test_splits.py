"""Concats that are taken apart again at the same places."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from tests.onnx_tools.passes.checks import model, node, ops, rewritten, value

CANCEL = "cancel_concats"


def joined(
    sizes: list[int], axis: int = 1, split_axis: int = 1, more: tuple[str, ...] = (), channels: int | str = 2
) -> onnx.ModelProto:
    """Inputs of 2, 3 and 1 channels, joined, then split, then every part through a Tanh."""
    parts = [f"p{i}" for i in range(len(sizes))]
    nodes = [
        node("Relu", "a", "ra"),
        node("Concat", "ra b c", "j", axis=axis),
        node("Split", "j sizes", " ".join(parts), axis=split_axis),
        *(node("Tanh", p, f"t_{p}") for p in parts),
    ]
    inputs = [value("a", "B", channels, 4), value("b", "B", 3, 4), value("c", "B", 1, 4)]
    outputs = [value(f"t_{p}", "B", f"n_{p}", "T") for p in parts]
    outputs += [value(name, "B", f"n_{name}", "T") for name in more]
    return model(nodes, inputs, outputs, {"sizes": np.array(sizes, np.int64)})


AT = [{"B": 1}, {"B": 2}]


def test_parts_that_are_whole_inputs() -> None:
    cancelled = rewritten(joined([2, 3, 1]), CANCEL, 1, 0, AT)
    assert ops(cancelled) == {"Relu": 1, "Tanh": 3}


def test_parts_that_are_several_inputs() -> None:
    cancelled = rewritten(joined([2, 4], -2, 1), CANCEL, 1, 0, AT)
    assert ops(cancelled) == {"Relu": 1, "Concat": 1, "Tanh": 2}


def test_a_concat_that_others_read_stays() -> None:
    assert ops(rewritten(joined([2, 3, 1], more=("j",)), CANCEL, 1, 0, AT)) == {"Relu": 1, "Concat": 1, "Tanh": 3}


def test_one_behind_another() -> None:
    nodes = [
        node("Concat", "a b", "j", axis=1),
        node("Split", "j", "p q", axis=1, num_outputs=2),
        node("Concat", "q p", "k", axis=1),
        node("Split", "k", "r s", axis=1, num_outputs=2),
        node("Sub", "r s", "y"),
    ]
    inputs = [value("a", "B", 2, "T"), value("b", "B", 2, "T")]
    assert ops(rewritten(model(nodes, inputs, [value("y", "B", 2, "T")]), CANCEL, 2, 0)) == {"Sub": 1}


@pytest.mark.parametrize(
    "made",
    [
        pytest.param(joined([1, 5]), id="inside an input"),
        pytest.param(joined([3, 3]), id="across a border"),
        pytest.param(joined([2, 2], split_axis=2), id="along another axis"),
        pytest.param(joined([2, 3, 1], more=("p1",)), id="a part is an output"),
        pytest.param(joined([2, 3, 1], channels="C"), id="an unknown length"),
    ],
)
def test_what_is_left_alone(made: onnx.ModelProto) -> None:
    rewritten(made, CANCEL, 0, sizes=[{"B": 1, "C": 2}])
