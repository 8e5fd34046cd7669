"""ONNX files that are not what they are declared to be, one component each in one build."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

if TYPE_CHECKING:
    from tests.conftest import Project, Result


def weighted(path: Path, location: str) -> None:
    """y = x · w with w [1] kept in another file."""
    w = numpy_helper.from_array(np.full(1, 3, np.float32), "w")
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, ["rows", "columns"]) for n in "xy")
    graph = helper.make_graph([helper.make_node("Mul", ["x", "w"], ["y"], "scale")], "weighted", [x], [y], [w])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    tensor = model.graph.initializer[0]
    raw = tensor.raw_data
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    path.write_bytes(model.SerializeToString())
    target = path.parent / location
    if target.parent.is_dir():
        target.write_bytes(raw)


def declared(**changes: Any) -> dict[str, Any]:
    return {"dtype": "float32", "shape": ["n", "length"], "onnx_name": "y"} | changes


@pytest.fixture(scope="module")
def built(toy_project: Project, limiter: Callable[..., None]) -> tuple[Project, Result]:
    folder = toy_project.root / "weights"
    whole = folder / "limiter.onnx"
    (folder / "truncated.onnx").write_bytes(whole.read_bytes()[:60])
    (folder / "text.onnx").write_text("not a model at all\n")
    (folder / "empty.onnx").touch()
    limiter(folder / "fixed.onnx", rows=3)
    weighted(folder / "outside.onnx", "../secret.bin")
    weighted(folder / "absent_data.onnx", "absent_data.onnx.data")
    (folder / "absent_data.onnx.data").unlink()
    weighted(folder / "unnamed_data.onnx", "elsewhere.bin")
    weighted(folder / "right.onnx", "right.onnx.data")
    limiter(folder / "unnamed.onnx", rows=None, columns=None)
    model = onnx.load(whole)
    model.graph.node[0].op_type = "Tahn"
    onnx.save(model, folder / "unknown_op.onnx")

    def component(name: str, file: str = "limiter.onnx", **changes: Any) -> dict[str, Any]:
        return {"onnx": f"weights/{file}", "inputs": {"x": "x"}, "outputs": {f"from_{name}": declared()}} | changes

    files = ("truncated", "text", "empty", "fixed", "outside", "absent_data", "unnamed_data", "unknown_op")
    components = {name: component(name, f"{name}.onnx") for name in (*files, "unnamed", "right")}
    components["other_input"] = component("other_input", inputs={"z": "x"})
    components["other_output"] = component("other_output", outputs={"from_other_output": declared(onnx_name="z")})
    components["other_dtype"] = component("other_dtype", outputs={"from_other_dtype": declared(dtype="int64")})
    components["other_rank"] = component("other_rank", outputs={"from_other_rank": declared(shape=["n"])})
    components["other_size"] = component("other_size", outputs={"from_other_size": declared(shape=["n", 7])})
    wrong = {"from_other_formula": declared(shape=["n", "length + 6"])}
    components["other_formula"] = component("other_formula", "unnamed.onnx", outputs=wrong)
    project = toy_project.pipeline("filed", components, {"x": {"dtype": "float32", "shape": ["n", "length"]}})
    return project, project.run("keep_going=true")


CASES = {
    "truncated": ("truncated.onnx: not a readable ONNX file", "it may be truncated"),
    "text": ("text.onnx: not a readable ONNX file", "it may be truncated"),
    "empty": ("empty.onnx: not a readable ONNX file", "it holds no graph; it may be truncated"),
    "fixed": ("input 'x' axis 0 is fixed at 3, declared dynamic ('n')", "or declare the number"),
    "outside": (
        "outside.onnx: its external data lies outside its folder: ../secret.bin",
        "put the weights beside the file; paths out of it are refused",
    ),
    "absent_data": (
        "absent_data.onnx: its weights are missing, absent_data.onnx.data",
        "put that file beside it",
    ),
    "unnamed_data": (
        "unnamed_data.onnx: reads its weights from elsewhere.bin, which is not declared",
        "onnx: {path: unnamed_data.onnx, data: [elsewhere.bin]}, so that a change of it is noticed",
    ),
    "unknown_op": ("unknown_op.onnx: not a valid model: No Op registered for Tahn", "export it again"),
    "other_input": ("the ONNX file has no input 'z'", "available: x"),
    "other_output": ("the ONNX file has no output 'z'", "available: y"),
    "other_dtype": (
        "output 'y' is float32 in the ONNX file, declared int64",
        "correct the declared dtype, or convert inside the component",
    ),
    "other_rank": ("is [2, 6] when the graph is run at length=6, n=2, declared ['n']", "correct the declared shape"),
    "other_size": ("is [2, 6] when the graph is run at length=6, n=2, declared ['n', 7]", "correct the declared shape"),
}


@pytest.mark.parametrize("name", CASES)
def test_the_import_says_why(built: tuple[Project, Result], name: str) -> None:
    fact, fix = CASES[name]
    lines = built[1].err.removeprefix("error: ").splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith(f"{name}.export: "))
    assert fact in lines[at]
    assert fix in lines[at + 1]
    assert lines[at + 1].startswith("  ")


REFERENCES = {
    "fixed": ("fixed.onnx: onnxruntime cannot run it: ", "given x [1, 2]"),
    "other_input": ("limiter.onnx: onnxruntime cannot run it: Required inputs (['x']) are missing", "given z [1, 2]"),
    "other_output": ("limiter.onnx: has no output 'z'", "available: y"),
    "other_formula": (
        "output 'y' has shape [1, 2] at min, declared ['n', 'length+6']",
        "which is [1, 8] at length=2, n=1; correct the shape, or the dim's formula",
    ),
    "outside": ("outside.onnx: its external data lies outside its folder: ../secret.bin", "put the weights beside"),
    "unknown_op": ("unknown_op.onnx: onnxruntime cannot load it", "No Op registered for Tahn"),
}


@pytest.mark.parametrize("name", REFERENCES)
def test_the_reference_runs_the_file_itself_and_says_why_not(built: tuple[Project, Result], name: str) -> None:
    fact, fix = REFERENCES[name]
    lines = built[1].err.splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith(f"{name}.reference: "))
    assert fact in lines[at]
    assert fix in lines[at + 1]


def test_no_message_calls_it_an_error_of_the_tool(built: tuple[Project, Result]) -> None:
    assert "unexpected error" not in built[1].err


def test_exit_code_and_traces(built: tuple[Project, Result]) -> None:
    project, result = built
    assert result.code == 1
    assert "Traceback" not in result.out + result.err
    assert project.half_written() == []
    assert [p.name for p in project.outputs.iterdir()] == ["store"]


def test_axes_without_names_are_named_as_declared(built: tuple[Project, Result]) -> None:
    project, _ = built
    project.ok("targets=[unnamed]")
    (manifest,) = (project.outputs / "filed").glob("*/manifest.json")
    graph = onnx.load(manifest.parent / "unnamed.onnx").graph
    for value in (*graph.input, *graph.output):
        assert [d.dim_param for d in value.type.tensor_type.shape.dim] == ["n", "length"]
    manifest.parent.rename(project.root / "unnamed")


def test_weights_beside_the_file_are_taken_in_and_watched(built: tuple[Project, Result]) -> None:
    project, _ = built
    project.ok("targets=[right]")
    (folder,) = (project.outputs / "filed").iterdir()
    model = onnx.load(folder / "right.onnx", load_external_data=False)
    assert [t.data_location for t in model.graph.initializer] == [TensorProto.DEFAULT]
    data = project.root / "weights" / "right.onnx.data"
    data.write_bytes(np.full(1, 5, np.float32).tobytes())
    planned = project.plan("targets=[right]")
    assert planned["right.export"] == ("run", "content of onnx data right.onnx.data changed")
