"""What an engine computes in, held against what was asked of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from onnx import TensorProto, helper, save

from autovoice.backends.tensorrt.inspector import Layer
from autovoice.backends.tensorrt.make import check_types, uninspected
from autovoice.backends.tensorrt.options import build_options
from autovoice.backends.tensorrt.request import Request
from autovoice.errors import PrecisionError

IMPLICIT = {"calibrator": "entropy2", "min_share": None, "float16": True, "prefer_int8": True}
POLICY = {"op_types": ["Conv"], "include": [], "exclude": ["last"], "first": True, "last": True}
KEEP: dict[str, Any] = {"op_types": [], "nodes": [], "inputs": []}
ASKED = {"first": "int8", "middle": "int8", "last": "float32"}


def heavy(node: str, reads: str) -> Layer:
    return Layer(node, "CaskConvolution", (node,), (reads,), (reads,), "", True)


@pytest.fixture
def request_(tmp_path: Path) -> Request:
    """Three convolutions one after the other."""
    values = ["x", "a", "b", "y"]
    nodes = [
        helper.make_node("Conv", [values[i], "w"], [values[i + 1]], name)
        for i, name in enumerate(("first", "middle", "last"))
    ]
    io = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 1, 8]) for n in ("x", "y")]
    weight = helper.make_tensor("w", TensorProto.FLOAT, [1, 1, 1], [0.5])
    save(helper.make_model(helper.make_graph(nodes, "g", io[:1], io[1:], [weight])), tmp_path / "model.onnx")
    path = tmp_path / "model.onnx"
    return Request(path, "int8", (), build_options({}), {}, {}, KEEP, path, implicit=IMPLICIT, quantize=POLICY)


def changed(request: Request, **changes: Any) -> Request:
    return Request(**{**vars(request), **changes})


def test_the_builder_may_choose_what_the_policy_lets_it(request_: Request) -> None:
    for first in ("int8", "float16"):
        assert check_types([heavy("first", first), heavy("last", "float16")], ASKED, request_) == 0


def test_what_the_policy_leaves_out_is_not_the_builders_to_choose(request_: Request) -> None:
    with pytest.raises(PrecisionError, match=r"^'last' is to stay out of int8, and the builder computes it so\n") as e:
        check_types([heavy("first", "int8"), heavy("last", "int8")], ASKED, request_)
    assert "prefer_int8=false" in e.value.fix
    kept = changed(request_, quantize=POLICY | {"exclude": []}, keep=KEEP | {"nodes": ["middle"]})
    with pytest.raises(PrecisionError, match="'middle' is to stay out of int8"):
        check_types([heavy("middle", "int8")], ASKED, kept)


def test_a_least_share_of_what_the_builder_chose(request_: Request) -> None:
    half = changed(request_, implicit=IMPLICIT | {"min_share": 0.5})
    layers = [heavy("first", "int8"), heavy("middle", "float16"), heavy("last", "float16")]
    with pytest.raises(PrecisionError, match="asked int8 for 50% of the heavy layers, the builder chose it for 33%"):
        check_types(layers, ASKED, half)
    assert check_types(layers[:2], ASKED, half) == 0


def test_of_explicit_pairs_those_that_came_out_higher_are_counted(request_: Request) -> None:
    explicit = changed(request_, implicit=None)
    layers = [heavy("first", "int8"), heavy("middle", "float32"), heavy("last", "float32")]
    assert check_types(layers, ASKED, explicit) == 1
    with pytest.raises(PrecisionError, match="asked float32, but 1 layers are not: last is float16"):
        check_types([*layers[:2], heavy("last", "float16")], ASKED, explicit)


def test_what_no_layer_tells_is_counted() -> None:
    assert uninspected([heavy("first+middle", "int8")], ASKED) == 1
