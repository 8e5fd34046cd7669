from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from autovoice.measure.parity import compare
from autovoice.onnx_tools.lowering.floating import _drop_round_trips, keep_float32, to_bfloat16, to_float16
from tests.onnx_models import FLOAT, HALF, INT32, INT64, keep, model, node, run, saved, two_layers, types_of, value

#: halfway between two float16 numbers near it, which are 1 apart: a round trip shows
EXACT = 1234.567


@pytest.fixture
def layers(tmp_path: Path) -> Path:
    return saved(two_layers(np.random.default_rng(0)), tmp_path / "model.onnx")


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "lowered.onnx"


def feeds(n: int = 16) -> dict[str, np.ndarray]:
    return {"x": np.random.default_rng(1).normal(size=(n, 8)).astype(np.float32)}


def test_float32_is_the_graph_itself(layers: Path, target: Path) -> None:
    assert keep_float32(layers, target, keep()) == {}
    assert target.read_bytes() == layers.read_bytes()


@pytest.mark.parametrize(
    ("lowering", "least", "most"), [(to_float16, 55, 90), (to_bfloat16, 35, 60)], ids=["float16", "bfloat16"]
)
def test_as_exact_as_its_mantissa(lowering, least: float, most: float, layers: Path, target: Path) -> None:
    lowering(layers, target, keep())
    (reference,), (got,) = run(layers, **feeds()), run(target, **feeds())
    assert got.dtype == np.float32
    assert least < compare(got, reference).snr_db < most


@pytest.mark.parametrize("lowering", [to_float16, to_bfloat16], ids=["float16", "bfloat16"])
def test_with_every_node_kept_nothing_is_lost(lowering, layers: Path, target: Path) -> None:
    summary = lowering(layers, target, keep(nodes=["*"]))
    assert summary == {"kept": ["n_a", "n_b", "n_y"]}
    np.testing.assert_array_equal(run(target, **feeds())[0], run(layers, **feeds())[0])


def test_inputs_and_outputs_stay_as_declared(layers: Path, target: Path) -> None:
    to_float16(layers, target, keep())
    graph = onnx.load(target).graph
    assert [(v.name, v.type.tensor_type.elem_type) for v in (*graph.input, *graph.output)] == [
        ("x", FLOAT),
        ("y", FLOAT),
    ]
    assert {t.data_type for t in graph.initializer} == {HALF}


def test_a_kept_node_computes_in_float32_and_its_neighbours_do_not(layers: Path, target: Path) -> None:
    assert to_float16(layers, target, keep(nodes=["n_b"])) == {"kept": ["n_b"]}
    kept = next(n for n in onnx.load(target).graph.node if n.op_type == "Tanh")
    types = types_of(target)
    assert (types[kept.input[0]], types[kept.output[0]]) == ("FLOAT", "FLOAT")
    assert [types[n.output[0]] for n in onnx.load(target).graph.node if n.op_type == "MatMul"] == ["FLOAT16"] * 2


def test_a_kept_type(layers: Path, target: Path) -> None:
    to_float16(layers, target, keep(op_types=["MatMul"]))
    types = types_of(target)
    found = {n.op_type: types[n.output[0]] for n in onnx.load(target).graph.node}
    assert (found["MatMul"], found["Tanh"]) == ("FLOAT", "FLOAT16")


def test_a_shared_pattern_that_matches_nothing_here_keeps_nothing(layers: Path, target: Path) -> None:
    assert to_float16(layers, target, keep(nodes=["conv_7"]))["kept"] == []


def test_nodes_stand_after_what_they_read(layers: Path, target: Path) -> None:
    to_float16(layers, target, keep(nodes=["n_b"]))
    known = {"x", *(t.name for t in onnx.load(target).graph.initializer)}
    for n in onnx.load(target).graph.node:
        assert set(n.input) <= known
        known.update(n.output)


# -- round trips through float16 -------------------------------------------------------------------


def test_an_input_read_by_a_kept_node_keeps_its_float32(tmp_path: Path, target: Path) -> None:
    """Without the removal, the converter's own casts would hand 1235 to the kept node."""
    nodes = [node("Neg", "f0", "exact"), node("Tanh", "f0", "rounded")]
    path = saved(model(nodes, [value("f0", 1)], [value("exact", 1), value("rounded", 1)]), tmp_path / "m.onnx")
    to_float16(path, target, keep(inputs=["f0"]))
    np.testing.assert_array_equal(run(target, f0=np.array([EXACT], np.float32))[0], np.array([-EXACT], np.float32))


def test_a_value_between_two_kept_nodes_keeps_its_float32(tmp_path: Path, target: Path) -> None:
    nodes = [node("Neg", "x", "a"), node("Neg", "a", "b"), node("Tanh", "b", "y")]
    path = saved(model(nodes, [value("x", 1)], [value("b", 1), value("y", 1)]), tmp_path / "m.onnx")
    to_float16(path, target, keep(nodes=["n_a", "n_b"]))
    np.testing.assert_array_equal(run(target, x=np.array([EXACT], np.float32))[0], np.array([EXACT], np.float32))


def test_a_pitch_becomes_the_same_index_as_in_float32(tmp_path: Path, target: Path) -> None:
    nodes = [
        node("Mul", "f0 scale", "scaled"),
        node("Cast", "scaled", "index", to=INT64),
        node("Gather", "table index", "y"),
    ]
    rng = np.random.default_rng(0)
    weights = {"scale": np.array(10.0, np.float32), "table": rng.normal(size=(9000, 1)).astype(np.float32)}
    path = saved(model(nodes, [value("f0", "n")], [value("y", "n", 1)], weights), tmp_path / "m.onnx")
    f0 = rng.uniform(80, 800, 64).astype(np.float32)
    to_float16(path, target, keep(inputs=["f0"]))
    assert compare(run(target, f0=f0)[0], run(path, f0=f0)[0]).snr_db > 60
    to_float16(path, target, keep())
    assert compare(run(target, f0=f0)[0], run(path, f0=f0)[0]).snr_db < 20


def trip(dtype: int, *more: onnx.NodeProto, outputs: tuple[str, ...] = ("y",)) -> onnx.ModelProto:
    """x → half h → float f → y."""
    nodes = [node("Cast", "x", "h", to=HALF), node("Cast", "h", "f", to=FLOAT), node("Neg", "f", "y"), *more]
    made = [value(o, 1, dtype=HALF if o in ("h", "z") else FLOAT) for o in outputs]
    return model(nodes, [value("x", 1, dtype=dtype)], made)


def dropped(made: onnx.ModelProto) -> list[tuple[str, str]]:
    _drop_round_trips(made)
    onnx.checker.check_model(made, full_check=True)
    return [(n.op_type, n.input[0]) for n in made.graph.node]


def test_a_round_trip_of_a_float_is_removed() -> None:
    assert dropped(trip(FLOAT)) == [("Neg", "x")]


@pytest.mark.parametrize("dtype", [INT32, INT64], ids=["int32", "int64"])
def test_a_number_rounded_on_its_way_from_an_integer_stays_so(dtype: int) -> None:
    assert dropped(trip(dtype)) == [("Cast", "x"), ("Cast", "h"), ("Neg", "f")]


def test_a_half_that_something_else_reads_stays() -> None:
    made = trip(FLOAT, node("Neg", "h", "z"), outputs=("y", "z"))
    assert dropped(made) == [
        ("Cast", "x"),
        ("Neg", "x"),
        ("Neg", "h"),
    ]


def test_a_half_that_is_an_output_stays() -> None:
    assert dropped(trip(FLOAT, outputs=("y", "h"))) == [("Cast", "x"), ("Neg", "x")]


def test_a_value_that_is_an_output_keeps_its_float32_and_its_name() -> None:
    assert dropped(trip(FLOAT, outputs=("y", "f"))) == [("Identity", "x"), ("Neg", "f")]
