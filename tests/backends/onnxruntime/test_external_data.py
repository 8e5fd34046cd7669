"""Tensors outside of a model are found wherever they may stand, without the onnx package."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from autovoice.backends.onnxruntime.external_data import external_data


def outside(name: str = "w", place: str | None = "w.data") -> TensorProto:
    tensor = numpy_helper.from_array(np.zeros(2, np.float32), name)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    if place is not None:
        tensor.external_data.add(key="location", value=place)
        tensor.external_data.add(key="offset", value="0")
    return tensor


def model(nodes: list[onnx.NodeProto], **more: object) -> onnx.ModelProto:
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [2])
    return helper.make_model(helper.make_graph(nodes, "location of things", [], [y], **more))


def constant(value: TensorProto) -> onnx.NodeProto:
    return helper.make_node("Constant", [], ["y"], value=value)


def in_a_branch(tensor: TensorProto) -> onnx.ModelProto:
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [2])
    branch = helper.make_graph([constant(tensor)], "branch", [], [y])
    return model([helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)])


def in_a_function(tensor: TensorProto) -> onnx.ModelProto:
    made = model([helper.make_node("F", [], ["y"], domain="own")])
    made.functions.append(helper.make_function("own", "F", [], ["y"], [constant(tensor)], made.opset_import))
    return made


def sparse(tensor: TensorProto) -> onnx.ModelProto:
    made = model([])
    made.graph.sparse_initializer.add(values=tensor, indices=numpy_helper.from_array(np.zeros(2, np.int64)), dims=[2])
    return made


@pytest.mark.parametrize(
    "place",
    [
        lambda t: model([], initializer=[t]),
        lambda t: model([constant(t)]),
        in_a_branch,
        in_a_function,
        sparse,
    ],
    ids=["initializer", "constant", "branch", "function", "sparse"],
)
def test_found_wherever_it_stands(place: Callable[[TensorProto], onnx.ModelProto]) -> None:
    assert external_data(place(outside(place="../../w")).SerializeToString()) == ["../../w"]
    whole = numpy_helper.from_array(np.zeros(2, np.float32), "location")
    assert external_data(place(whole).SerializeToString()) == []


def test_each_place_once() -> None:
    weights = [outside("a"), outside("b"), outside("c", "other"), numpy_helper.from_array(np.zeros(1), "location")]
    assert external_data(model([], initializer=weights).SerializeToString()) == ["other", "w.data"]


def test_many_branches_inside_each_other() -> None:
    """Deeper than the interpreter's stack."""
    made = outside().SerializeToString()
    made = b"\x2a" + _length(made) + made  # a graph's initializer
    for _ in range(3000):
        made = b"\x32" + _length(made) + made  # an attribute's graph
        made = b"\x2a" + _length(made) + made  # a node's attribute
        made = b"\x0a" + _length(made) + made  # a graph's node
    assert external_data(b"\x3a" + _length(made) + made) == ["w.data"]


def _length(data: bytes) -> bytes:
    n, out = len(data), b""
    while n > 0x7F:
        out, n = out + bytes([n & 0x7F | 0x80]), n >> 7
    return out + bytes([n])


@pytest.mark.parametrize("content", [b"location\xff", b"location", b"\x3a\x7flocation", b"\x3b location"], ids=repr)
def test_what_is_no_model(content: bytes) -> None:
    with pytest.raises(ValueError, match=r"cut short|wire type"):
        external_data(content)
