from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import numpy_helper

from autovoice.calibration.observe import observe
from autovoice.errors import AutovoiceError, LoweringError
from autovoice.measure.parity import compare
from autovoice.measure.precision import check_quantized, count_weights
from autovoice.onnx_tools.lowering.integer import to_u8s8
from autovoice.onnx_tools.lowering.policy import watched_tensors
from autovoice.onnx_tools.ort import float_session
from autovoice.onnx_tools.ranges import write_ranges
from tests.onnx_models import keep, model, node, saved, value

POLICY: dict[str, Any] = {
    "op_types": ["Conv", "ConvTranspose", "MatMul", "Gemm"],
    "include": [],
    "exclude": [],
    "first": True,
    "last": True,
}
WIDTH = 16


def _weights(rng: np.random.Generator, *names: str, shape: tuple[int, ...]) -> dict[str, np.ndarray]:
    """Output channels of very different sizes: one scale for all would lose the small ones."""
    sizes = np.geomspace(0.01, 1, shape[0]).astype(np.float32).reshape(-1, *[1] * (len(shape) - 1))
    return {n: rng.standard_normal(shape, np.float32) * sizes for n in names}


def convolutions(rng: np.random.Generator) -> onnx.ModelProto:
    weights = _weights(rng, "w1", "w2", shape=(WIDTH, WIDTH, 3)) | {
        "b1": rng.standard_normal(WIDTH, np.float32) / 10,
        "b2": rng.standard_normal(WIDTH, np.float32) / 10,
    }
    nodes = [
        node("Conv", "x w1 b1", "a", pads=[1, 1]),
        node("Relu", "a", "b"),
        node("Conv", "b w2 b2", "y", pads=[2, 2], dilations=[2]),
    ]
    return model(nodes, [value("x", "n", WIDTH, "t")], [value("y", "n", WIDTH, "t")], weights)


def linear(rng: np.random.Generator) -> onnx.ModelProto:
    """A projection by MatMul, and one by Gemm."""
    weights = {"w1": rng.standard_normal((WIDTH, WIDTH), np.float32), "b": rng.standard_normal(WIDTH, np.float32)}
    weights |= _weights(rng, "w2", shape=(WIDTH, WIDTH))
    nodes = [node("MatMul", "x w1", "a"), node("Tanh", "a", "h"), node("Gemm", "h w2 b", "y", transB=1)]
    return model(nodes, [value("x", "n", WIDTH)], [value("y", "n", WIDTH)], weights)


def attention(rng: np.random.Generator) -> onnx.ModelProto:
    """A MatMul of two activations between two with weights."""
    weights = {n: rng.standard_normal((WIDTH, WIDTH), np.float32) / 4 for n in ("wq", "wo")}
    nodes = [
        node("MatMul", "x wq", "q"),
        node("Transpose", "x", "k", perm=[0, 2, 1]),
        node("MatMul", "q k", "scores"),
        node("Softmax", "scores", "p", axis=-1),
        node("MatMul", "p x", "h"),
        node("MatMul", "h wo", "y"),
    ]
    return model(nodes, [value("x", 1, "t", WIDTH)], [value("y", 1, "t", WIDTH)], weights)


def upsampling(rng: np.random.Generator) -> onnx.ModelProto:
    weights = _weights(rng, "w", shape=(WIDTH, WIDTH, 4)) | _weights(rng, "v", shape=(WIDTH, WIDTH, 1))
    nodes = [node("ConvTranspose", "x w", "a", strides=[2], pads=[1, 1]), node("Conv", "a v", "y")]
    return model(nodes, [value("x", 1, WIDTH, "t")], [value("y", 1, WIDTH, "u")], weights)


MODELS = {"convolutions": convolutions, "linear": linear, "attention": attention, "upsampling": upsampling}
SHAPES = {
    "convolutions": (2, WIDTH, 50),
    "linear": (60, WIDTH),
    "attention": (1, 40, WIDTH),
    "upsampling": (1, WIDTH, 30),
}


@pytest.fixture(params=MODELS)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


def feeds(kind: str, seed: int = 5) -> dict[str, np.ndarray]:
    return {"x": np.random.default_rng(seed).standard_normal(SHAPES[kind], np.float32)}


def calibrated(kind: str, folder: Path) -> tuple[Path, Path]:
    """(float32 model, ranges of its activations over a few samples)."""
    source = saved(MODELS[kind](np.random.default_rng(0)), folder / "model.onnx")
    found = observe(source, watched_tensors(onnx.load(source)), [], [(str(i), feeds(kind, i)) for i in range(4)])
    write_ranges(folder / "ranges.json", "", 4, "minmax", {t: (found.low[t], found.high[t]) for t in found.low})
    return source, folder / "ranges.json"


def lowered(kind: str, folder: Path, name: str = "int8.onnx", keeps: Mapping[str, Any] | None = None, **changes: Any):
    source, ranges = calibrated(kind, folder)
    said = to_u8s8(source, folder / name, keeps or keep(), POLICY | changes, ranges)
    return folder / name, said


def computed(path: Path, given: Mapping[str, np.ndarray]) -> np.ndarray:
    return float_session(path).run(None, dict(given))[0]


def test_close_to_float32_on_other_data(kind: str, tmp_path: Path) -> None:
    path, _ = lowered(kind, tmp_path)
    parity = compare(computed(path, feeds(kind, 99)), computed(tmp_path / "model.onnx", feeds(kind, 99)))
    assert parity.snr_db > 25
    assert parity.snr_db < 80  # it is not float32 under another name


def test_all_that_is_chosen_computes_in_integers(kind: str, tmp_path: Path) -> None:
    path, said = lowered(kind, tmp_path)
    heavy = [n.name for n in onnx.load(tmp_path / "model.onnx").graph.node if n.op_type in POLICY["op_types"]]
    assert said == {"quantized": heavy}
    check_quantized(tmp_path / "model.onnx", path, "int8", POLICY, keep())


def test_a_valid_model_whose_nodes_are_in_order(kind: str, tmp_path: Path) -> None:
    path, _ = lowered(kind, tmp_path)
    made = onnx.load(path)
    onnx.checker.check_model(made, full_check=True)
    known = {t.name for t in made.graph.initializer} | {i.name for i in made.graph.input}
    for n in made.graph.node:
        assert {i for i in n.input if i} <= known, n.name
        known |= set(n.output)
    names = [n.name for n in made.graph.node]
    assert len(set(names)) == len(names)
    before = onnx.load(tmp_path / "model.onnx").graph
    assert (list(made.graph.input), list(made.graph.output)) == (list(before.input), list(before.output))


def test_the_same_ranges_give_the_same_bytes(kind: str, tmp_path: Path) -> None:
    first, _ = lowered(kind, tmp_path, "a.onnx")
    second, _ = lowered(kind, tmp_path, "b.onnx")
    assert first.read_bytes() == second.read_bytes()


def _pairs(path: Path) -> tuple[dict[str, np.ndarray], list[onnx.NodeProto]]:
    graph = onnx.load(path).graph
    return {t.name: numpy_helper.to_array(t) for t in graph.initializer}, list(graph.node)


@pytest.mark.parametrize("kind", ["convolutions", "upsampling"], indirect=True)
def test_activations_are_unsigned_and_weights_signed_a_scale_a_channel(kind: str, tmp_path: Path) -> None:
    tensors, nodes = _pairs(lowered(kind, tmp_path)[0])
    assert {str(tensors[n.input[2]].dtype) for n in nodes if n.op_type == "QuantizeLinear"} == {"uint8"}
    makers = {o: n for n in nodes for o in n.output}
    for n in (n for n in nodes if n.op_type in ("Conv", "ConvTranspose")):
        quantized, scale, zero = (tensors[i] for i in makers[n.input[1]].input)
        assert (quantized.dtype, scale.shape, zero.dtype) == (np.int8, (WIDTH,), np.int8)
        assert not zero.any()
        assert np.abs(quantized.astype(int)).max() == 127


def test_activation_scales_are_those_of_the_ranges(tmp_path: Path) -> None:
    source = saved(convolutions(np.random.default_rng(0)), tmp_path / "model.onnx")
    ranges = {"x": (-1.0, 4.1), "a": (-2.0, 2.0), "b": (0.0, 5.1), "y": (1.0, 2.55)}
    write_ranges(tmp_path / "r.json", "", None, "given", ranges)
    to_u8s8(source, tmp_path / "q.onnx", keep(), POLICY, tmp_path / "r.json")
    tensors, nodes = _pairs(tmp_path / "q.onnx")
    pairs = {n.input[0]: (tensors[n.input[1]], tensors[n.input[2]]) for n in nodes if n.op_type == "QuantizeLinear"}
    scale, zero = pairs["x"]
    assert (float(scale), int(zero)) == (pytest.approx(5.1 / 255), 50)
    scale, zero = pairs["b"]
    assert (float(scale), int(zero)) == (pytest.approx(5.1 / 255), 0)


def test_biases_are_int32_or_stay(tmp_path: Path) -> None:
    source, ranges = calibrated("convolutions", tmp_path)
    for bias, expected in ((True, "int32"), (False, "float32")):
        to_u8s8(source, tmp_path / "q.onnx", keep(), POLICY, ranges, bias=bias)
        tensors, nodes = _pairs(tmp_path / "q.onnx")
        makers = {o: n for n in nodes for o in n.output}
        biases = [n.input[2] for n in nodes if n.op_type == "Conv"]
        stored = [tensors[b] if b in tensors else tensors[makers[b].input[0]] for b in biases]
        assert {str(s.dtype) for s in stored} == {expected}


def test_onnx_runtime_fuses_them_into_integer_operators(tmp_path: Path) -> None:
    path, _ = lowered("convolutions", tmp_path)
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    options.log_severity_level = 3
    ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    ops = Counter(n.op_type for n in onnx.load(tmp_path / "optimised.onnx").graph.node)
    assert (ops["QLinearConv"], ops["Conv"]) == (2, 0)
    assert count_weights(tmp_path / "optimised.onnx") == {"int8": 2}


@pytest.mark.parametrize(
    ("changes", "kept", "expected"),
    [
        ({"include": ["w1"]}, keep(), ["n_a"]),
        ({"exclude": ["n_a"]}, keep(), ["n_y"]),
        ({"last": False}, keep(), ["n_a"]),
        ({}, keep(nodes=["n_y"]), ["n_a"]),
    ],
    ids=["include", "exclude", "last", "keep"],
)
def test_only_what_is_chosen(changes: dict[str, Any], kept: dict, expected: list[str], tmp_path: Path) -> None:
    path, said = lowered("convolutions", tmp_path, keeps=kept, **changes)
    assert said == {"quantized": expected}
    check_quantized(tmp_path / "model.onnx", path, "int8", POLICY | changes, kept)


@pytest.mark.parametrize("ranges", [None, Path("no/such/file")], ids=["none", "unread"])
def test_nothing_chosen_is_the_same_file(ranges: Path | None, tmp_path: Path) -> None:
    source = saved(convolutions(np.random.default_rng(0)), tmp_path / "model.onnx")
    said = to_u8s8(source, tmp_path / "q.onnx", keep(), POLICY | {"op_types": []}, ranges)
    assert said == {"quantized": []}
    assert (tmp_path / "q.onnx").read_bytes() == source.read_bytes()


def test_the_source_is_only_read(tmp_path: Path) -> None:
    source, ranges = calibrated("linear", tmp_path)
    before = source.read_bytes()
    to_u8s8(source, tmp_path / "q.onnx", keep(), POLICY, ranges)
    assert source.read_bytes() == before


@pytest.mark.parametrize("missing", ["x", "a", "y"])
def test_a_range_that_is_missing_is_a_users_error(missing: str, tmp_path: Path) -> None:
    source = saved(convolutions(np.random.default_rng(0)), tmp_path / "model.onnx")
    ranges = {t: (-1.0, 1.0) for t in ("x", "a", "b", "y") if t != missing}
    write_ranges(tmp_path / "r.json", "", None, "given", ranges)
    with pytest.raises(AutovoiceError, match=f"'{missing}'"):
        to_u8s8(source, tmp_path / "q.onnx", keep(), POLICY, tmp_path / "r.json")


@pytest.mark.parametrize("pair", [(0.0, 0.0), (3.0, 3.0), (-2.0, -2.0), (0.0, 1e-45)])
def test_a_range_without_width_still_gives_finite_values(pair: tuple[float, float], tmp_path: Path) -> None:
    """A tensor that is one constant, or always zero, over all samples."""
    source = saved(convolutions(np.random.default_rng(0)), tmp_path / "model.onnx")
    ranges = {"x": (-4.0, 4.0), "a": (-4.0, 4.0), "b": pair, "y": (-4.0, 4.0)}
    write_ranges(tmp_path / "r.json", "", None, "given", ranges)
    to_u8s8(source, tmp_path / "q.onnx", keep(), POLICY, tmp_path / "r.json")
    assert np.isfinite(computed(tmp_path / "q.onnx", feeds("convolutions"))).all()


def test_a_channel_of_zeros(tmp_path: Path) -> None:
    made = convolutions(np.random.default_rng(0))
    for t in made.graph.initializer:
        if t.name == "w1":
            array = numpy_helper.to_array(t).copy()
            array[3] = 0
            t.CopyFrom(numpy_helper.from_array(array, "w1"))
    source = saved(made, tmp_path / "model.onnx")
    found = observe(source, ["a", "b", "x", "y"], [], [("0", feeds("convolutions"))])
    write_ranges(tmp_path / "r.json", "", 1, "minmax", {t: (found.low[t], found.high[t]) for t in found.low})
    to_u8s8(source, tmp_path / "q.onnx", keep(), POLICY, tmp_path / "r.json")
    given = feeds("convolutions")
    assert compare(computed(tmp_path / "q.onnx", given), computed(source, given)).snr_db > 25


def test_a_policy_that_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(LoweringError, match="the policy chooses none of 2 nodes to quantize"):
        lowered("convolutions", tmp_path, exclude=["*"])
    assert not (tmp_path / "int8.onnx").exists()


GEMMS = [
    pytest.param({}, (WIDTH,), id="plain"),
    pytest.param({"transA": 1}, (WIDTH,), id="transA"),
    pytest.param({"transB": 1}, (WIDTH,), id="transB"),
    pytest.param({"alpha": 0.5}, (WIDTH,), id="alpha"),
    pytest.param({}, (1, WIDTH), id="bias_of_two_axes"),
    pytest.param({}, (1,), id="bias_of_one_number"),
    pytest.param({}, (30, WIDTH), id="bias_a_row"),
    pytest.param({}, None, id="no_bias"),
]


def _close(made: onnx.ModelProto, given: Mapping[str, np.ndarray], folder: Path) -> None:
    source = saved(made, folder / "model.onnx")
    found = observe(source, watched_tensors(made), [], [("0", given)])
    write_ranges(folder / "r.json", "", 1, "minmax", {t: (found.low[t], found.high[t]) for t in found.low})
    to_u8s8(source, folder / "q.onnx", keep(), POLICY, folder / "r.json")
    check_quantized(source, folder / "q.onnx", "int8", POLICY, keep())
    assert compare(computed(folder / "q.onnx", given), computed(source, given)).snr_db > 25


@pytest.mark.parametrize(("attributes", "bias"), GEMMS)
def test_gemm_in_every_form(attributes: dict[str, Any], bias: tuple[int, ...] | None, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    weights = {"w": rng.standard_normal((WIDTH, WIDTH), np.float32)}
    weights |= {} if bias is None else {"b": rng.standard_normal(bias, np.float32)}
    shape = (WIDTH, 30) if attributes.get("transA") else (30, WIDTH)
    gemm = node("Gemm", "x w" if bias is None else "x w b", "y", **attributes)
    made = model([gemm], [value("x", *shape)], [value("y", 30, WIDTH)], weights)
    _close(made, {"x": rng.standard_normal(shape, np.float32)}, tmp_path)


def test_a_gemm_that_scales_its_bias_is_refused(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    weights = {"w": rng.standard_normal((WIDTH, WIDTH), np.float32), "b": rng.standard_normal((WIDTH,), np.float32)}
    gemm = node("Gemm", "x w b", "y", "scaled", beta=3.0)
    made = model([gemm], [value("x", 30, WIDTH)], [value("y", 30, WIDTH)], weights)
    with pytest.raises(LoweringError) as error:
        _close(made, {"x": rng.standard_normal((30, WIDTH), np.float32)}, tmp_path)
    fact = "node 'scaled' scales its bias (beta), which has no int8 form"
    assert str(error.value) == f"{fact}\n  ++component.<name>.quantize.exclude=[scaled]"


@pytest.mark.parametrize(
    ("reads", "shape", "weight"),
    [
        ("x w", (5, 3, WIDTH), (WIDTH, WIDTH)),
        ("w x", (WIDTH, 9), (WIDTH, WIDTH)),
        ("x w", (7, WIDTH), (WIDTH,)),
        ("x w", (3, 2, WIDTH), (3, WIDTH, WIDTH)),
    ],
    ids=["more_axes", "weight_on_the_left", "vector", "stacked_weights"],
)
def test_matmul_in_every_form(reads: str, shape: tuple[int, ...], weight: tuple[int, ...], tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal(shape, np.float32), rng.standard_normal(weight, np.float32)
    y = x @ w if reads == "x w" else w @ x
    made = model([node("MatMul", reads, "y")], [value("x", *x.shape)], [value("y", *y.shape)], {"w": w})
    _close(made, {"x": x}, tmp_path)


@pytest.mark.parametrize("opset", range(17, 24))
def test_at_every_opset_that_can_be_exported(opset: int, tmp_path: Path) -> None:
    made = convolutions(np.random.default_rng(0))
    made = model(
        made.graph.node,
        made.graph.input,
        made.graph.output,
        {t.name: numpy_helper.to_array(t) for t in made.graph.initializer},
        opset,
    )
    _close(made, feeds("convolutions"), tmp_path)


def test_weights_and_biases_that_two_layers_share(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    weights = {"w": rng.standard_normal((WIDTH, WIDTH, 1), np.float32) / 4, "b": rng.standard_normal(WIDTH, np.float32)}
    weights["v"] = 20 * weights["w"]
    nodes = [node("Conv", "x w b", "a"), node("Conv", "a w b", "c"), node("Conv", "c v b", "y")]
    made = model(nodes, [value("x", 2, WIDTH, "t")], [value("y", 2, WIDTH, "t")], weights)
    _close(made, feeds("convolutions"), tmp_path)


def test_an_output_that_another_layer_reads(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    weights = {n: rng.standard_normal((WIDTH, WIDTH, 1), np.float32) / 4 for n in "wv"}
    nodes = [node("Conv", "x w", "y"), node("Conv", "y v", "z")]
    outputs = [value("y", 2, WIDTH, "t"), value("z", 2, WIDTH, "t")]
    _close(model(nodes, [value("x", 2, WIDTH, "t")], outputs, weights), feeds("convolutions"), tmp_path)
