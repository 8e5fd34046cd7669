"""Files as other tools leave them, imported, referenced and named in the table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from autovoice.errors import ExportError
from autovoice.measure.points import POINTS, load_point, save_point
from autovoice.steps import import_onnx, reference_onnx
from autovoice.steps.context import Context
from tests.onnx_models import INT64, model, node, saved, value

W = np.random.default_rng(0).normal(size=(8, 8)).astype(np.float32)
X = np.random.default_rng(1).normal(size=(2, 8)).astype(np.float32)


def tensor(*shape: int | str, dtype: str = "float32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": list(shape)}


def fields(inputs: dict[str, Any], y: dict[str, Any], simplify: bool = True) -> dict[str, Any]:
    return {
        "inputs": inputs,
        "outputs": {"y": {**y, "wire": "y"}},
        "output_order": ["y"],
        "reads": {n: {"role": "inputs", "wire": n} for n in inputs},
        "formulas": {},
        "trace": {"n": 24},
        "export": {"opset": 18, "simplify": simplify},
    }


def imported(made: onnx.ModelProto | Path, folder: Path, **declared: Any) -> tuple[dict[str, Any], onnx.ModelProto]:
    path = made if isinstance(made, Path) else saved(made, folder / "given.onnx")
    (folder / "out").mkdir()
    result = import_onnx.run(Context(fields(**declared), {}, {"onnx": path}, folder / "out"))
    return result, onnx.load(folder / "out" / "model.onnx")


def answer(made: onnx.ModelProto, **feeds: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
    got: np.ndarray = session.run(None, feeds)[0]
    return got


def spoken_to() -> onnx.ModelProto:
    """y = x·w; nothing reads `sid`."""
    inputs = [value("x", "N", 8), value("sid", "N", dtype=INT64)]
    return model([node("MatMul", "x w", "y")], inputs, [value("y", "N", 8)], {"w": W})


def test_an_input_that_nothing_reads_may_be_declared(tmp_path: Path) -> None:
    inputs = {"x": tensor("n", 8), "sid": tensor("n", dtype="int64")}
    result, made = imported(spoken_to(), tmp_path, inputs=inputs, y=tensor("n", 8))
    assert ([v.name for v in made.graph.input], result["notes"]) == (["x", "sid"], [])
    np.testing.assert_allclose(answer(made, x=X, sid=np.zeros(2, np.int64)), X @ W, atol=1e-5)


def test_or_left_out_which_is_told(tmp_path: Path) -> None:
    result, made = imported(spoken_to(), tmp_path, inputs={"x": tensor("n", 8)}, y=tensor("n", 8))
    assert [v.name for v in made.graph.input] == ["x"]
    assert result["notes"] == ["nothing reads input 'sid' of given.onnx: it is left out"]


def test_the_reference_runs_a_file_whose_unread_input_is_left_out(tmp_path: Path) -> None:
    path = saved(spoken_to(), tmp_path / "given.onnx")
    for folder in ("inputs", "reference"):
        (tmp_path / folder).mkdir()
    for point in POINTS:
        save_point(tmp_path / "inputs", point, {"x": X})
    declared = fields({"x": tensor("n", 8)}, tensor("n", 8))
    reference_onnx.run(Context(declared, {"inputs": tmp_path / "inputs"}, {"onnx": path}, tmp_path / "reference"))
    np.testing.assert_allclose(load_point(tmp_path / "reference", "opt")["y"], X @ W, atol=1e-5)


def test_one_that_is_read_must_be_declared(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="the ONNX file has an input 'x' that is not declared"):
        imported(spoken_to(), tmp_path, inputs={"sid": tensor("n", dtype="int64")}, y=tensor("n", 8))


@pytest.mark.parametrize("opset", [8, 13])
def test_weights_that_are_inputs_too(opset: int, tmp_path: Path) -> None:
    made = spoken_to()
    made.graph.input[1].CopyFrom(value("w", 8, 8))
    made.ir_version, made.opset_import[0].version = 3, opset
    _, made = imported(made, tmp_path, inputs={"x": tensor("n", 8)}, y=tensor("n", 8))
    assert [v.name for v in made.graph.input] == ["x"]
    np.testing.assert_allclose(answer(made, x=X), X @ W, atol=1e-5)


def test_a_weight_that_is_declared_is_fed(tmp_path: Path) -> None:
    made = spoken_to()
    made.graph.input[1].CopyFrom(value("w", 8, 8))
    _, made = imported(made, tmp_path, inputs={"x": tensor("n", 8), "w": tensor(8, 8)}, y=tensor("n", 8))
    np.testing.assert_allclose(answer(made, x=X, w=2 * W), X @ (2 * W), atol=1e-5)


def test_an_opset_that_a_tool_cannot_read_is_no_reason_to_refuse(tmp_path: Path) -> None:
    made = model(
        [node("MatMul", "x w", "m"), node("Relu", "m", "y")], [value("x", "N", 8)], [value("y", "N", 8)], {"w": W}
    )
    made.opset_import[0].version, made.ir_version = 6, 4
    result, made = imported(made, tmp_path, inputs={"x": tensor("n", 8)}, y=tensor("n", 8))
    np.testing.assert_allclose(answer(made, x=X), np.maximum(X @ W, 0), atol=1e-5)
    assert all(note.startswith("onnxslim is left out: ") for note in result["notes"])


def test_uneven_parts_keep_their_sizes(tmp_path: Path) -> None:
    parts = [value("y", "N", 3), value("b", "N", 3), value("c", "N", 2)]
    made = model([node("Split", "x", "y b c", axis=1, num_outputs=3)], [value("x", "N", 8)], parts)
    declared = fields({"x": tensor("n", 8)}, tensor("n", 3))
    declared["outputs"] |= {"b": tensor("n", 3), "c": tensor("n", 2)}
    path = saved(made, tmp_path / "given.onnx")
    (tmp_path / "out").mkdir()
    import_onnx.run(Context(declared, {}, {"onnx": path}, tmp_path / "out"))
    session = onnxruntime.InferenceSession(tmp_path / "out" / "model.onnx", providers=["CPUExecutionProvider"])
    assert [o.shape for o in session.run(None, {"x": X})] == [(2, 3), (2, 3), (2, 2)]


def test_an_output_without_a_shape_takes_the_declared_one(tmp_path: Path) -> None:
    made = spoken_to()
    made.graph.output[0].type.tensor_type.ClearField("shape")
    inputs = {"x": tensor("n", 8), "sid": tensor("n", dtype="int64")}
    _, made = imported(made, tmp_path, inputs=inputs, y=tensor("n", 8))
    assert [d.dim_param or d.dim_value for d in made.graph.output[0].type.tensor_type.shape.dim] == ["n", 8]


def test_data_of_a_constant_in_another_file_is_demanded_and_taken_in(tmp_path: Path) -> None:
    constant = helper.make_node("Constant", [], ["w"], "n_w", value=numpy_helper.from_array(W, "w"))
    made = model([constant, node("MatMul", "x w", "y")], [value("x", "N", 8)], [value("y", "N", 8)])
    stored = made.graph.node[0].attribute[0].t
    (tmp_path / "weights.bin").write_bytes(stored.raw_data)
    stored.ClearField("raw_data")
    stored.data_location = TensorProto.EXTERNAL
    stored.external_data.add(key="location", value="weights.bin")
    path, declared = tmp_path / "given.onnx", fields({"x": tensor("n", 8)}, tensor("n", 8))
    path.write_bytes(made.SerializeToString())
    (tmp_path / "out").mkdir()
    with pytest.raises(ExportError) as raised:
        import_onnx.run(Context(declared, {}, {"onnx": path}, tmp_path / "out"))
    assert raised.value.fact == f"{path}: reads its weights from weights.bin, which is not declared"
    files = {"onnx": path, "onnx data weights.bin": tmp_path / "weights.bin"}
    import_onnx.run(Context(declared, {}, files, tmp_path / "out"))
    np.testing.assert_allclose(answer(onnx.load(tmp_path / "out" / "model.onnx"), x=X), X @ W, atol=1e-5)


@pytest.mark.parametrize("dtype", ["float64", "uint16", "int16", "uint64"])
def test_inputs_and_outputs_of_other_types(dtype: str, tmp_path: Path) -> None:
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    made = model([node("Transpose", "x", "y")], [value("x", "N", 8, dtype=kind)], [value("y", 8, "N", dtype=kind)])
    _, made = imported(made, tmp_path, inputs={"x": tensor("n", 8, dtype=dtype)}, y=tensor(8, "n", dtype=dtype))
    x = np.arange(16, dtype=dtype).reshape(2, 8)
    np.testing.assert_array_equal(answer(made, x=x), x.T)
