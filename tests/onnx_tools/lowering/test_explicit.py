"""Explicit quantization against a computation of its own: numbers are rounded by numpy, the float graph runs them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, numpy_helper
from onnx.reference import ReferenceEvaluator

from autovoice.errors import LoweringError
from autovoice.measure.parity import compare
from autovoice.onnx_tools.io import save
from autovoice.onnx_tools.lowering.explicit import with_qdq
from tests.onnx_models import FLOAT, HALF, INT64, model, node, value
from tests.rtx import built

INT8, FLOAT8 = TensorProto.INT8, TensorProto.FLOAT8E4M3FN
LARGEST = {"int8": 127.0, "float8": 448.0}
Ranges = dict[str, tuple[float, float]]


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def rounded(x: np.ndarray, scale: np.ndarray | float, dtype: str, least: float | None = None) -> np.ndarray:
    """The nearest numbers of `dtype` times `scale`, by definition."""
    wide = np.clip(x / np.asarray(scale, np.float32), least or -LARGEST[dtype], LARGEST[dtype])
    near = np.rint(wide) if dtype == "int8" else wide.astype(ml_dtypes.float8_e4m3fn).astype(np.float32)
    return (near * scale).astype(np.float32)


def weights_rounded(w: np.ndarray, axis: int | None, dtype: str) -> np.ndarray:
    others = None if axis is None else tuple(i for i in range(w.ndim) if i != axis)
    return rounded(w, np.abs(w).max(axis=others, keepdims=axis is not None) / LARGEST[dtype], dtype)


def run(made: onnx.ModelProto, **feeds: np.ndarray) -> list[np.ndarray]:
    """By ONNX Runtime as the graph stands: its optimizer would replace pairs by integer kernels."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(made.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return [np.asarray(x) for x in session.run(None, feeds)]


def tensors(made: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {t.name: numpy_helper.to_array(t) for t in made.graph.initializer}


def ops(made: onnx.ModelProto, op: str) -> list[onnx.NodeProto]:
    return [n for n in made.graph.node if n.op_type == op]


def source(made: onnx.ModelProto, name: str) -> onnx.NodeProto:
    return next(n for n in made.graph.node if name in n.output)


def whole(made: onnx.ModelProto) -> onnx.ModelProto:
    onnx.checker.check_model(made, full_check=True)
    return made


# -- one node of each kind ---------------------------------------------------------------------------

#: op type, attributes, shape of its input, of its weight, of its output, axis of its scales
KINDS = [
    pytest.param("Conv", {"pads": [1, 1]}, (1, 4, 9), (6, 4, 3), (1, 6, 9), 0, id="conv1d"),
    pytest.param("Conv", {"group": 2}, (1, 4, 5, 5), (6, 2, 3, 3), (1, 6, 3, 3), 0, id="conv2d_groups"),
    pytest.param("ConvTranspose", {"strides": [2]}, (1, 4, 5), (4, 6, 4), (1, 6, 12), 1, id="transposed"),
    pytest.param("ConvTranspose", {"group": 2}, (1, 4, 5), (4, 3, 4), (1, 6, 8), None, id="transposed_groups"),
    pytest.param("MatMul", {}, (2, 5, 4), (4, 6), (2, 5, 6), 1, id="matmul"),
    pytest.param("MatMul", {}, (2, 5, 4), (2, 4, 6), (2, 5, 6), None, id="matmul_batched"),
    pytest.param("MatMul", {}, (5, 4), (4,), (5,), None, id="matmul_vector"),
    pytest.param("Gemm", {}, (5, 4), (4, 6), (5, 6), 1, id="gemm"),
    pytest.param("Gemm", {"transB": 1, "alpha": 0.5}, (5, 4), (6, 4), (5, 6), 0, id="gemm_transposed"),
]


def single(op: str, attributes: Mapping[str, Any], x: tuple, w: np.ndarray, y: tuple) -> onnx.ModelProto:
    weights = {"w": w}
    if op != "MatMul":
        weights["b"] = normal(6, seed=2)
    return model([node(op, " ".join(["x", *weights]), "y", **attributes)], [value("x", *x)], [value("y", *y)], weights)


def uneven(shape: tuple[int, ...], axis: int | None) -> np.ndarray:
    """A weight with every output channel of another size, so that a wrong axis shows."""
    w = normal(*shape, seed=1)
    if axis is not None:
        w *= np.expand_dims(4.0 ** np.arange(shape[axis]), [i for i in range(w.ndim) if i != axis])
    return w.astype(np.float32)


@pytest.mark.parametrize("dtype", ["int8", "float8"])
@pytest.mark.parametrize(("op", "attributes", "x", "w", "y", "axis"), KINDS)
def test_computes_with_rounded_inputs_and_weights(op, attributes, x, w, y, axis, dtype: str) -> None:
    weight, signal = uneven(w, axis), normal(*x)
    made = single(op, attributes, x, weight, y)
    lowered = whole(with_qdq(made, ["n_y"], {"x": (-1.0, 2.0)}, dtype))
    of_float = single(op, attributes, x, weights_rounded(weight, axis, dtype), y)
    least = -128.0 if dtype == "int8" else None  # QuantizeLinear's own
    (expected,) = run(of_float, x=rounded(signal, np.float32(2.0 / LARGEST[dtype]), dtype, least))
    (got,) = run(lowered, x=signal)
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())
    assert compare(got, run(made, x=signal)[0]).snr_db > 15
    if op != "ConvTranspose" or "group" not in attributes:  # its evaluator knows no groups
        (again,) = ReferenceEvaluator(lowered).run(None, {"x": signal})
        np.testing.assert_allclose(again, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize(("op", "attributes", "x", "w", "y", "axis"), KINDS)
def test_weights_are_stored_by_output_channel(op, attributes, x, w, y, axis) -> None:
    weight = uneven(w, axis)
    lowered = with_qdq(single(op, attributes, x, weight, y), ["n_y"], {"x": (-1.0, 1.0)})
    found = tensors(lowered)
    dequantize = source(lowered, ops(lowered, op)[0].input[1])
    stored, scale, zero = (found[name] for name in dequantize.input)
    assert [a.i for a in dequantize.attribute] == ([] if axis is None else [axis])
    assert "w" not in found
    assert (stored.dtype, stored.shape) == (np.int8, w)
    assert (stored.min(), stored.max()) >= (-127, 127) or np.abs(stored).max() == 127
    assert scale.shape == zero.shape == (() if axis is None else (w[axis],))
    assert not zero.any()


@pytest.mark.parametrize(("dtype", "stored"), [("int8", INT8), ("float8", FLOAT8)])
def test_scales_are_symmetric_and_zero_points_zero(dtype: str, stored: int) -> None:
    made = single("Conv", {}, (1, 4, 9), normal(6, 4, 3), (1, 6, 7))
    lowered = with_qdq(made, ["n_y"], {"x": (-3.0, 1.5)}, dtype)
    found = {t.name: t for t in lowered.graph.initializer}
    for n in (*ops(lowered, "QuantizeLinear"), *ops(lowered, "DequantizeLinear")):
        assert found[n.input[2]].data_type == stored
        assert not numpy_helper.to_array(found[n.input[2]]).astype(np.float32).any()
        assert found[n.input[1]].data_type == FLOAT
    (quantize,) = ops(lowered, "QuantizeLinear")
    assert tensors(lowered)[quantize.input[1]] == np.float32(3.0 / LARGEST[dtype])


def test_biases_and_results_are_not_quantized() -> None:
    made = single("Gemm", {}, (5, 4), normal(4, 6), (5, 6))
    lowered = with_qdq(made, ["n_y"], {"x": (-1.0, 1.0)})
    (gemm,) = ops(lowered, "Gemm")
    assert (gemm.input[2], gemm.output[0]) == ("b", "y")
    np.testing.assert_array_equal(tensors(lowered)["b"], tensors(made)["b"])
    assert [n.op_type for n in lowered.graph.node] == ["QuantizeLinear", "DequantizeLinear", "DequantizeLinear", "Gemm"]


def test_int8_weights_round_halves_to_even_and_leave_out_128() -> None:
    w = np.array([[127.0, -127.0, 0.5, 1.5, 2.5, -0.5, -1.5]], np.float32).T
    made = model([node("MatMul", "x w", "y")], [value("x", 1, 7)], [value("y", 1, 1)], {"w": w})
    stored = tensors(with_qdq(made, ["n_y"], {"x": (0.0, 1.0)}))["w_int8"]
    assert stored.ravel().tolist() == [127, -127, 0, 2, 2, 0, -2]


def test_a_constant_on_the_left_has_one_scale() -> None:
    made = model([node("MatMul", "w x", "y")], [value("x", 4, 5)], [value("y", 3, 5)], {"w": normal(3, 4)})
    lowered = with_qdq(made, ["n_y"], {"x": (-3.0, 3.0)})
    assert tensors(lowered)["w_int8_scale"].shape == ()
    assert compare(run(lowered, x=normal(4, 5))[0], run(made, x=normal(4, 5))[0]).snr_db > 30


def test_two_activations_have_a_pair_each() -> None:
    made = model([node("MatMul", "x z", "y")], [value("x", 3, 4), value("z", 4, 5)], [value("y", 3, 5)])
    lowered = with_qdq(made, ["n_y"], {"x": (-3.0, 3.0), "z": (-1.0, 1.0)})
    assert [n.input[0] for n in ops(lowered, "QuantizeLinear")] == ["x", "z"]


# -- what is shared ----------------------------------------------------------------------------------


def branches(**attributes: Any) -> onnx.ModelProto:
    """x → MatMul a, MatMul b (one weight), Tanh c, MatMul d (by c)."""
    nodes = [node("MatMul", "x w", "a"), node("MatMul", "x w", "b"), node("Tanh", "x", "c"), node("MatMul", "c w", "d")]
    outputs = [value(o, 3, 4) for o in "abcd"]
    return model(nodes, [value("x", 3, 4)], outputs, {"w": normal(4, 4)}, **attributes)


def test_readers_of_one_tensor_share_its_pair_and_its_weight() -> None:
    lowered = whole(with_qdq(branches(), ["n_a", "n_b", "n_d"], {"x": (-3.0, 3.0), "c": (-1.0, 1.0)}))
    a, b, d = ops(lowered, "MatMul")
    assert list(a.input) == list(b.input)
    assert d.input[1] == a.input[1]
    assert [len(ops(lowered, f"{q}uantizeLinear")) for q in ("Q", "Deq")] == [2, 3]
    assert sorted(tensors(lowered)) == sorted(
        f"{t}_int8{part}" for t in "cwx" for part in ("_scale", "_zero", *([""] if t == "w" else []))
    )


def test_nodes_that_were_not_chosen_read_what_they_did() -> None:
    made = branches()
    lowered = whole(with_qdq(made, ["n_b"], {"x": (-3.0, 3.0)}))
    a, _, d = ops(lowered, "MatMul")
    assert (list(a.input), list(d.input)) == (["x", "w"], ["c", "w"])
    assert ops(lowered, "Tanh")[0].input[0] == "x"
    x = normal(3, 4)
    for i, (got, exact) in enumerate(zip(run(lowered, x=x), run(made, x=x), strict=True)):
        assert np.array_equal(got, exact) == (i != 1)


def test_one_weight_along_two_axes_is_stored_twice() -> None:
    nodes = [node("MatMul", "x w", "a"), node("Gemm", "x w", "b", transB=1)]
    made = model(nodes, [value("x", 3, 4)], [value(o, 3, 4) for o in "ab"], {"w": uneven((4, 4), 0)})
    lowered = whole(with_qdq(made, ["n_a", "n_b"], {"x": (-3.0, 3.0)}))
    stored = [tensors(lowered)[n.input[0]] for n in ops(lowered, "DequantizeLinear")[1:]]
    assert [a.shape for a in stored] == [(4, 4), (4, 4)]
    assert (stored[0] != stored[1]).any()


def test_the_model_given_is_left_alone() -> None:
    made = branches()
    before = made.SerializeToString(deterministic=True)
    with_qdq(made, ["n_a"], {"x": (-3.0, 3.0)}, "float8", "float16", ["n_b"])
    assert made.SerializeToString(deterministic=True) == before


def test_no_nodes_mean_no_pairs() -> None:
    assert with_qdq(branches(), [], {}).graph == branches().graph


# -- ranges at their ends ----------------------------------------------------------------------------


@pytest.mark.parametrize("around", ["float32", "float16"])
@pytest.mark.parametrize("dtype", ["int8", "float8"])
def test_a_range_and_a_channel_of_zero_stay_zero(dtype: str, around: str) -> None:
    w = normal(4, 6)
    w[:, 2] = 0
    made = model([node("MatMul", "x w", "y")], [value("x", 5, 4)], [value("y", 5, 6)], {"w": w})
    (got,) = run(with_qdq(made, ["n_y"], {"x": (-3.0, 3.0)}, dtype, around), x=normal(5, 4))
    assert not got[:, 2].any()
    assert np.isfinite(got).all()
    assert got.any()
    dead = with_qdq(made, ["n_y"], {"x": (0.0, 0.0)}, dtype, around)
    assert all((scale > 0).all() for name, scale in tensors(dead).items() if name.endswith("_scale"))
    assert not run(dead, x=np.zeros((5, 4), np.float32))[0].any()
    assert np.abs(run(dead, x=normal(5, 4))[0]).max() < 1e-3


@pytest.mark.parametrize(("dtype", "least"), [("int8", 30), ("float8", 20)])
def test_scales_below_the_normal_float16_numbers_clip_nothing(dtype: str, least: float) -> None:
    w = normal(64, 6) * np.array([1, 1e-1, 1e-2, 1e-3, 1e-4, 3e-5], np.float32)
    made = model([node("MatMul", "x w", "y")], [value("x", 50, 64)], [value("y", 50, 6)], {"w": w})
    lowered = with_qdq(made, ["n_y"], {"x": (-4.0, 4.0)}, dtype, "float16")
    scale = tensors(lowered)[f"w_{dtype}_scale"]
    assert (np.abs(w).max(axis=0) <= scale.astype(np.float64) * LARGEST[dtype]).all()
    wide = run(lowered, x=normal(50, 64))[0], run(made, x=normal(50, 64))[0]
    assert [compare(*(y[:, i] for y in wide)).snr_db > least for i in range(4)] == [True] * 4


def test_a_range_beyond_float16_has_its_largest_scale() -> None:
    made = single("MatMul", {}, (5, 4), normal(4, 6), (5, 6))
    lowered = with_qdq(made, ["n_y"], {"x": (-1e30, 1e30)}, around="float16")
    assert tensors(lowered)["graph_input_cast_0_int8_scale"] == np.finfo(np.float16).max


# -- float16 around ----------------------------------------------------------------------------------


def stack(opset: int = 18) -> onnx.ModelProto:
    """x → Conv a → LeakyRelu b → Conv c → + b → d → Conv y, 8 channels of a dynamic length."""
    weights = {f"w{i}": normal(8, 8, 3, seed=i) / 5 for i in range(3)} | {f"b{i}": normal(8, seed=9) for i in range(3)}
    nodes = [
        node("Conv", "x w0 b0", "a", pads=[1, 1]),
        node("LeakyRelu", "a", "b", alpha=0.1),
        node("Conv", "b w1 b1", "c", pads=[3, 3], dilations=[3]),
        node("Add", "c b", "d"),
        node("Conv", "d w2 b2", "y", pads=[1, 1]),
    ]
    return model(nodes, [value("x", 1, 8, "n")], [value("y", 1, 8, "n")], weights, opset)


STACK_RANGES: Ranges = {"x": (-4.0, 4.0), "b": (-2.0, 6.0), "d": (-8.0, 8.0)}
STACK_NODES = ("n_a", "n_c", "n_y")


@pytest.mark.parametrize("optimized", [False, True], ids=["as_it_stands", "optimized"])
@pytest.mark.parametrize(("dtype", "least"), [("int8", 35), ("float8", 25)])
def test_float16_around(dtype: str, least: float, optimized: bool) -> None:
    lowered = whole(with_qdq(stack(), STACK_NODES, STACK_RANGES, dtype, "float16"))
    assert [v.type.tensor_type.elem_type for v in (*lowered.graph.input, *lowered.graph.output)] == [FLOAT, FLOAT]
    assert {t.data_type for t in lowered.graph.initializer} == {HALF, INT8 if dtype == "int8" else FLOAT8}
    x = normal(1, 8, 200)
    if optimized:
        path = ort.SessionOptions()
        path.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
        got = ort.InferenceSession(lowered.SerializeToString(), path).run(None, {"x": x})[0]
    else:
        (got,) = run(lowered, x=x)
    assert got.dtype == np.float32
    assert compare(got, run(stack(), x=x)[0]).snr_db > least
    near = run(with_qdq(stack(), STACK_NODES, STACK_RANGES, dtype), x=x)[0]
    assert compare(got, near).snr_db > least + 5


def test_in_float16_pairs_read_casts_by_their_sources_range() -> None:
    lowered = with_qdq(stack(), STACK_NODES, STACK_RANGES, around="float16")
    known = {v.name: v.type.tensor_type.elem_type for v in onnx.shape_inference.infer_shapes(lowered).graph.value_info}
    quantize = ops(lowered, "QuantizeLinear")
    assert [n.input[0] for n in quantize] == ["graph_input_cast_0", "b", "d"]
    scales = [tensors(lowered)[n.input[1]] for n in quantize]
    np.testing.assert_allclose(scales, np.array([4.0, 6.0, 8.0]) / 127, rtol=1e-3)
    assert {known[n.output[0]] for n in ops(lowered, "DequantizeLinear")} == {HALF}


def test_weights_are_rounded_once_from_float32() -> None:
    made = single("MatMul", {}, (5, 4), normal(4, 6), (5, 6))
    found = tensors(with_qdq(made, ["n_y"], {"x": (-3.0, 3.0)}, around="float16"))
    expected = np.rint(tensors(made)["w"] / found["w_int8_scale"].astype(np.float32))
    np.testing.assert_array_equal(found["w_int8"], expected)


def test_a_kept_node_has_float32_scales_and_the_others_float16() -> None:
    lowered = whole(with_qdq(stack(), STACK_NODES, STACK_RANGES, around="float16", kept=["n_c", "n_b"]))
    a, c, y = ops(lowered, "Conv")
    found = tensors(lowered)
    kinds = [found[source(lowered, name).input[1]].dtype for n in (a, c, y) for name in n.input[:2]]
    assert kinds == [np.float16] * 2 + [np.float32] * 2 + [np.float16] * 2
    assert found["b1"].dtype == np.float32
    x = normal(1, 8, 50)
    assert compare(run(lowered, x=x)[0], run(stack(), x=x)[0]).snr_db > 35


def test_kept_nodes_that_read_one_value() -> None:
    nodes = [node("Tanh", "x", "a"), node("MatMul", "a w", "b"), node("MatMul", "a w", "c"), node("MatMul", "a w", "d")]
    made = model(nodes, [value("x", 3, 4)], [value(o, 3, 4) for o in "bcd"], {"w": normal(4, 4)})
    lowered = whole(with_qdq(made, ["n_b", "n_c", "n_d"], {"a": (-1.0, 1.0)}, around="float16", kept=["n_b", "n_c"]))
    reads = {n.name: list(n.input) for n in ops(lowered, "MatMul")}
    assert reads["n_b"] == reads["n_c"] != reads["n_d"]
    assert sorted(tensors(lowered)[n].dtype.name for n in tensors(lowered) if n.startswith("w")) == [
        *["float16", "float32"],
        *["int8"] * 4,
    ]
    for got, exact in zip(run(lowered, x=normal(3, 4)), run(made, x=normal(3, 4)), strict=True):
        assert compare(got, exact).snr_db > 30


def test_an_input_that_a_kept_node_reads_is_not_rounded() -> None:
    nodes = [node("Neg", "x", "a"), node("MatMul", "x w", "y")]
    made = model(nodes, [value("x", 3, 4)], [value("a", 3, 4), value("y", 3, 4)], {"w": normal(4, 4)})
    lowered = whole(with_qdq(made, ["n_y"], {"x": (-3.0, 3.0)}, around="float16", kept=["n_a"]))
    np.testing.assert_array_equal(run(lowered, x=normal(3, 4))[0], -normal(3, 4))


def test_a_value_that_is_an_output_too() -> None:
    nodes = [node("MatMul", "x w", "a"), node("MatMul", "a w", "y")]
    made = model(nodes, [value("x", 3, 4)], [value("a", 3, 4), value("y", 3, 4)], {"w": normal(4, 4)})
    lowered = whole(with_qdq(made, ["n_y"], {"a": (-6.0, 6.0)}, around="float16"))
    for got, exact in zip(run(lowered, x=normal(3, 4)), run(made, x=normal(3, 4)), strict=True):
        assert compare(got, exact).snr_db > 30


# -- the file ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("around", ["float32", "float16"])
@pytest.mark.parametrize(("opset", "expected"), [(11, 19), (18, 19), (19, 19), (21, 21)])
def test_the_opset_is_one_with_the_types_needed(opset: int, expected: int, around: str) -> None:
    lowered = whole(with_qdq(stack(opset), STACK_NODES, STACK_RANGES, "float8", around))
    assert [o.version for o in lowered.opset_import] == [expected]
    x = normal(1, 8, 20)
    assert compare(run(lowered, x=x)[0], run(stack(), x=x)[0]).snr_db > 20


LOWER = """
import sys
from pathlib import Path
from autovoice.onnx_tools.lowering.explicit import with_qdq
from autovoice.onnx_tools.io import save
from tests.onnx_tools.lowering.test_explicit import STACK_NODES, STACK_RANGES, stack
save(with_qdq(stack(), set(STACK_NODES), STACK_RANGES, "int8", "float16", {"n_c", "n_b"}), Path(sys.argv[1]))
"""


def test_the_same_bytes_every_time(tmp_path: Path) -> None:
    """Whatever order a set of names has in an interpreter."""
    save(with_qdq(stack(), STACK_NODES[::-1], STACK_RANGES, "int8", "float16", ["n_b", "n_c"]), tmp_path / "0.onnx")
    root = Path(__file__).parents[2]
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(root)}
        command = [sys.executable, "-c", LOWER, str(tmp_path / f"{seed}.onnx")]
        subprocess.run(command, check=True, env=environment, cwd=root)
    assert len({p.read_bytes() for p in tmp_path.glob("*.onnx")}) == 1


def test_names_that_are_taken() -> None:
    nodes = [node("Tanh", "x", "x_int8"), node("MatMul", "x w", "y")]
    outputs = [value("x_int8", 3, 4), value("y", 3, 4)]
    made = model(nodes, [value("x", 3, 4)], outputs, {"w": normal(4, 4)})
    lowered = whole(with_qdq(made, ["n_y"], {"x": (-3.0, 3.0)}))
    np.testing.assert_allclose(run(lowered, x=normal(3, 4))[0], np.tanh(normal(3, 4)), rtol=1e-5)


def test_a_weight_that_a_graph_inside_reads_stays() -> None:
    then = onnx.helper.make_graph([node("Identity", "w", "t")], "then", [], [value("t", 4, 4)])
    other = onnx.helper.make_graph([node("Neg", "w", "e")], "else", [], [value("e", 4, 4)])
    nodes = [node("If", "c", "z", then_branch=then, else_branch=other), node("MatMul", "x w", "y")]
    inputs = [value("c", dtype=TensorProto.BOOL), value("x", 3, 4)]
    made = model(nodes, inputs, [value("z", 4, 4), value("y", 3, 4)], {"w": normal(4, 4)})
    lowered = whole(with_qdq(made, ["n_y"], {"x": (-3.0, 3.0)}))
    np.testing.assert_array_equal(run(lowered, x=normal(3, 4), c=np.array(False))[0], -normal(4, 4))


# -- mistakes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("nodes", "ranges", "fact", "fix"),
    [
        (["n_z"], {}, "no node 'n_z' to quantize", "available: n_a, n_b"),
        (["n_b"], {}, "node 'n_b' is a LeakyRelu, which cannot be quantized", "choose nodes of Conv, ConvTranspose,"),
        (["n_c"], {"d": (0, 1)}, "node 'n_c' reads 'b', which has no range", "available: d"),
        (["n_c"], {"b": (-np.inf, 1)}, "node 'n_c' reads 'b', whose range is (-inf, 1)", "a mask of -inf"),
        (["n_c"], {"b": (np.nan, 1)}, "node 'n_c' reads 'b', whose range is (nan, 1)", "other data"),
    ],
    ids=["absent", "type", "no_range", "infinite", "not_a_number"],
)
@pytest.mark.parametrize("around", ["float32", "float16"])
def test_mistakes(nodes: list[str], ranges: Ranges, fact: str, fix: str, around: str) -> None:
    with pytest.raises(LoweringError) as raised:
        with_qdq(stack(), nodes, ranges, around=around)
    assert raised.value.fact == fact
    assert fix in raised.value.fix


def test_an_invalid_result() -> None:
    made = branches(opset=21)
    made.graph.node[2].op_type = "Tan_h"
    with pytest.raises(LoweringError, match="the int8 graph is not a valid model: No Op registered for Tan_h"):
        with_qdq(made, ["n_a"], {"x": (-3.0, 3.0)})


def test_an_old_graph_with_an_operator_of_its_own() -> None:
    made = branches()
    made.graph.node[2].op_type = "Tan_h"
    with pytest.raises(
        LoweringError, match=r"onnx's converter to opset 19 failed: RuntimeError: .*no registered schema"
    ) as raised:
        with_qdq(made, ["n_a"], {"x": (-3.0, 3.0)})
    assert raised.value.fix == "export it at opset 19 or newer"


def test_integers_are_no_activations() -> None:
    nodes = [node("Cast", "x", "n", to=INT64), node("MatMul", "n n", "y")]
    made = model(nodes, [value("x", 2, 2)], [value("y", 2, 2, dtype=INT64)])
    with pytest.raises(LoweringError, match="node 'n_y' reads 'n', which has no range"):
        with_qdq(made, ["n_y"], {})


# -- TensorRT-RTX, which builds for GPUs that are not there ------------------------------------------


def attention() -> onnx.ModelProto:
    """MatMul by weights twice, MatMul of two activations, Gemm."""
    weights = {f"w{i}": normal(16, 16, seed=i) / 4 for i in range(3)} | {"b": normal(16)}
    nodes = [
        node("MatMul", "x w0", "q"),
        node("MatMul", "x w1", "k"),
        node("Transpose", "k", "t", perm=[1, 0]),
        node("MatMul", "q t", "s"),
        node("Softmax", "s", "p"),
        node("MatMul", "p x", "v"),
        node("Gemm", "v w2 b", "y", transB=1),
    ]
    return model(nodes, [value("x", "n", 16)], [value("y", "n", 16)], weights)


def upsampler() -> onnx.ModelProto:
    """A stage of HiFi-GAN: Conv, ConvTranspose, two residual blocks of dilated Conv pairs averaged, Conv, Tanh."""
    weights = {"wi": normal(32, 8, 7) / 8, "wu": normal(32, 16, 8) / 16, "wo": normal(1, 16, 7) / 10}
    nodes = [node("Conv", "x wi", "i", pads=[3, 3]), node("ConvTranspose", "i wu", "u", strides=[4], pads=[2, 2])]
    for block, kernel in (("p", 3), ("r", 7)):
        last = "u"
        for dilation in (1, 3):
            names = [f"{block}{dilation}{part}" for part in "abcdz"]
            for w in "fg":
                weights[f"{block}{dilation}{w}"] = normal(16, 16, kernel) / np.float32(4 * kernel)
            a, b, c, d, z = names
            nodes += [
                node("LeakyRelu", last, a, alpha=0.1),
                node("Conv", f"{a} {block}{dilation}f", b, dilations=[dilation], pads=[dilation * (kernel // 2)] * 2),
                node("LeakyRelu", b, c, alpha=0.1),
                node("Conv", f"{c} {block}{dilation}g", d, pads=[kernel // 2] * 2),
                node("Add", f"{d} {last}", z),
            ]
            last = z
    nodes += [
        node("Add", "p3z r3z", "m"),
        node("LeakyRelu", "m", "l", alpha=0.1),
        node("Conv", "l wo", "o", pads=[3, 3]),
        node("Tanh", "o", "y"),
    ]
    return model(nodes, [value("x", 1, 8, "n")], [value("y", 1, 1, "4*n")], weights)


def chosen(made: onnx.ModelProto, *op_types: str) -> tuple[list[str], Ranges]:
    """All but the first and the last of these types that have others, and a range for everything they read."""
    names = [n.name for n in made.graph.node if n.op_type in op_types]
    names = names[1:-1] if len(names) > 4 else names
    return names, {t: (-8.0, 8.0) for n in made.graph.node for t in n.input}


#: what is lowered, and the operators quantized in it
GRAPHS = [
    pytest.param(stack, ("Conv",), id="convolutions"),
    pytest.param(attention, ("MatMul", "Gemm"), id="products"),
    pytest.param(upsampler, ("Conv",), id="upsampler"),
    pytest.param(upsampler, ("Conv", "ConvTranspose"), id="upsampler_transposed"),
]


@pytest.mark.parametrize("around", ["float32", "float16"])
@pytest.mark.parametrize(("made", "op_types"), GRAPHS)
def test_larger_graphs_come_near_their_float_graph(made, op_types, around: str) -> None:
    lowered = whole(with_qdq(made(), *chosen(made(), *op_types), "int8", around))
    shape = [d.dim_value or 30 for d in made().graph.input[0].type.tensor_type.shape.dim]
    x = normal(*shape)
    assert compare(run(lowered, x=x)[0], run(made(), x=x)[0]).snr_db > 15


@pytest.mark.tensorrt
@pytest.mark.parametrize("around", ["float32", "float16"])
@pytest.mark.parametrize("dtype", ["int8", "float8"])
@pytest.mark.parametrize(("made", "op_types"), GRAPHS)
def test_tensorrt_builds_it(made, op_types, dtype: str, around: str) -> None:
    lowered = with_qdq(made(), *chosen(made(), *op_types), dtype, around)
    engine, said = built(lowered, "SM89")
    assert engine is not None, said
    assert {line for line in said if "scales to fp32" not in line} == set()  # what it does with float16 scales


@pytest.mark.tensorrt
@pytest.mark.parametrize(("op", "attributes", "x", "w", "y", "axis"), KINDS)
@pytest.mark.parametrize("around", ["float32", "float16"])
@pytest.mark.parametrize("dtype", ["int8", "float8"])
def test_tensorrt_builds_each_kind_with_a_dead_channel(op, attributes, x, w, y, axis, dtype, around: str) -> None:
    weight = normal(*w)
    if axis is not None:
        weight[(slice(None),) * axis + (2,)] = 0
    lowered = with_qdq(single(op, attributes, x, weight, y), ["n_y"], {"x": (-1.0, 1.0)}, dtype, around)
    engine, said = built(lowered, "SM89")
    assert engine is not None, said


@pytest.mark.tensorrt
@pytest.mark.parametrize("around", ["float32", "float16"])
def test_tensorrt_builds_a_range_of_zero(around: str) -> None:
    ranges = dict.fromkeys(STACK_RANGES, (0.0, 0.0))
    assert built(with_qdq(stack(), STACK_NODES, ranges, around=around), "SM89")[0] is not None


@pytest.mark.tensorrt
def test_tensorrt_has_no_float8_before_sm89() -> None:
    engine, said = built(with_qdq(stack(), STACK_NODES, STACK_RANGES, "float8"), "SM80")
    assert engine is None
    assert "fp8" in " ".join(said)
