from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from autovoice.onnx_tools.ort import plain_session, run_briefly
from autovoice.onnx_tools.probe import Probe
from tests.onnx_models import INT64, model, node, value


def declared(dtype: str, *shape: str | int) -> dict:
    return {"dtype": dtype, "shape": list(shape)}


def test_runs_at_different_sizes_of_every_dim() -> None:
    made = model([node("Neg", "x", "y")], [value("x", "a", "b")], [value("y", "a", "b")])
    runs = Probe({"x": declared("float32", "n", "t")}, {}, {"n": 24, "t": 26}, {}).runs(made)
    assert [r.outputs["y"].shape for r in runs] == [(24, 26), (48, 52), (12, 13)]


def test_derived_dims_follow_their_formula() -> None:
    made = model([node("Neg", "x", "y")], [value("x", "a")], [value("y", "a")])
    runs = Probe({"x": declared("float32", "samples")}, {}, {"t": 4, "samples": 40}, {"samples": "10*t"}).runs(made)
    assert [r.sizes for r in runs] == [{"t": n, "samples": 10 * n} for n in (4, 8, 2)]


def test_whole_numbers_are_small_enough_for_any_table() -> None:
    made = model(
        [node("Gather", "table x", "y")],
        [value("x", "n", dtype=INT64)],
        [value("y", "n")],
        {"table": np.ones(1, np.float32)},
    )
    runs = Probe({"x": declared("int64", "n")}, {}, {"n": 24}, {}).runs(made)
    assert {int(r.feeds["x"].max()) for r in runs} == {0}  # a table of one row has no second
    assert len(runs) == 3


@pytest.mark.parametrize("dtype", ["float64", "float16", "uint16", "int8", "bool"])
def test_inputs_of_every_dtype(dtype: str) -> None:
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    made = model([node("Identity", "x", "y")], [value("x", "n", dtype=kind)], [value("y", "n", dtype=kind)])
    runs = Probe({"x": declared(dtype, "n")}, {}, {"n": 3}, {}).runs(made)
    assert [r.outputs["y"].dtype.name for r in runs] == [dtype] * 3


def endless() -> onnx.ModelProto:
    """A Loop without a number of rounds, whose condition stays as it was given."""
    yes, i, go, still = (value(n, dtype=TensorProto.BOOL if n != "i" else INT64) for n in ("yes", "i", "go", "still"))
    zero, carried, kept, y = (value(n, dtype=INT64) for n in ("zero", "c", "d", "y"))
    nodes = [node("Identity", "go", "still"), node("Identity", "c", "d")]
    body = helper.make_graph(nodes, "body", [i, go, carried], [still, kept])
    loop = helper.make_node("Loop", ["", "yes", "zero"], ["y"], "loop", body=body)
    return helper.make_model(
        helper.make_graph([loop], "g", [yes, zero], [y]), opset_imports=[helper.make_opsetid("", 18)], ir_version=10
    )


def test_a_loop_that_never_ends_is_ended() -> None:
    session = plain_session(endless())
    with pytest.raises(TimeoutError, match=r"no answer within 0\.2 s"):
        run_briefly(session, {"yes": np.array(True), "zero": np.array(0)}, seconds=0.2)
    assert run_briefly(session, {"yes": np.array(False), "zero": np.array(5)}) == {"y": 5}


def test_small_sizes_first_where_they_are_asked_for() -> None:
    made = model([node("Neg", "x", "y")], [value("x", "a", "b")], [value("y", "a", "b")])
    probe = Probe(
        {"x": declared("float32", "n", "t")}, {"y": declared("float32", "n", "t - 4")}, {"n": 24, "t": 26}, {}
    )
    assert [r.sizes for r in probe.runs(made, small=True)] == [{"n": 5, "t": 7}, {"n": 24, "t": 26}]  # t=4 leaves none
