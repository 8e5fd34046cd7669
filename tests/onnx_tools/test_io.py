from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from autovoice.errors import ExportError
from autovoice.onnx_tools.io import dtype_name, external_files, only_declared, read, save, unread_inputs
from tests.onnx_models import FLOAT, INT64, model, node, run, saved, value


def doubled() -> onnx.ModelProto:
    """x [b, t] → y [b, 2*t], with the symbols an exporter would choose."""
    return model([node("Concat", "x x", "y", axis=1)], [value("x", "s0", "s1")], [value("y", "s0", "2*s1")])


# -- reading and saving ----------------------------------------------------------------------------


@pytest.fixture
def outside_weights(tmp_path: Path) -> Path:
    """An ONNX file with its weights beside it."""
    folder = tmp_path / "given"
    folder.mkdir()
    w = np.arange(2000, dtype=np.float32).reshape(1, 2000)
    made = model([node("MatMul", "x w", "y")], [value("x", 1, 1)], [value("y", 1, 2000)], {"w": w})
    onnx.save(made, folder / "m.onnx", save_as_external_data=True, location="m.data", size_threshold=0)
    return folder / "m.onnx"


def relocate(path: Path, location: str) -> None:
    made = onnx.load(path, load_external_data=False)
    for entry in made.graph.initializer[0].external_data:
        if entry.key == "location":
            entry.value = location
    path.write_bytes(made.SerializeToString())


def test_weights_beside_a_file_are_taken_in(outside_weights: Path, tmp_path: Path) -> None:
    assert external_files(outside_weights) == (outside_weights.parent / "m.data",)
    save(read(outside_weights), tmp_path / "whole.onnx")
    assert external_files(tmp_path / "whole.onnx") == ()
    (y,) = run(tmp_path / "whole.onnx", x=np.ones((1, 1), np.float32))
    np.testing.assert_array_equal(y[0], np.arange(2000))


@pytest.mark.parametrize("location", ["../secret", "/etc/hostname", "sub/../../secret"])
def test_weights_outside_its_folder_are_refused(location: str, outside_weights: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(bytes(8000))
    relocate(outside_weights, location)
    for reader in (read, external_files):
        with pytest.raises(ExportError) as raised:
            reader(outside_weights)
        assert raised.value.fact == f"{outside_weights}: its external data lies outside its folder: {location}"
        assert "paths out of it are refused" in raised.value.fix


def test_weights_behind_a_link_out_of_its_folder_are_refused(outside_weights: Path, tmp_path: Path) -> None:
    (outside_weights.parent / "m.data").rename(tmp_path / "secret")
    (outside_weights.parent / "m.data").symlink_to(tmp_path / "secret")
    with pytest.raises(ExportError, match=r"its external data lies outside its folder: m\.data"):
        read(outside_weights)


@pytest.mark.parametrize("damage", ["gone", "cut"])
def test_weights_that_cannot_be_read(damage: str, outside_weights: Path) -> None:
    data = outside_weights.parent / "m.data"
    if damage == "gone":
        data.unlink()
    else:
        data.write_bytes(data.read_bytes()[:100])
    with pytest.raises(ExportError, match=r"m.onnx: its external data cannot be read\n  "):
        read(outside_weights)


@pytest.mark.parametrize("content", [None, b"", b"not a model", bytes(100)], ids=["absent", "empty", "text", "zeros"])
def test_a_file_that_is_no_model(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ExportError, match=r"m.onnx: not a readable ONNX file\n  .*it may be truncated"):
        read(path)


def test_a_truncated_model(tmp_path: Path) -> None:
    path = saved(doubled(), tmp_path / "m.onnx")
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(ExportError, match=r"m\.onnx: not a readable ONNX file"):
        read(path)


def test_a_model_is_read_by_a_relative_path_too(outside_weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(outside_weights.parent)
    assert [n.op_type for n in read(Path("m.onnx")).graph.node] == ["MatMul"]


@pytest.mark.parametrize(
    ("elem_type", "name"),
    [
        (FLOAT, "float32"),
        (TensorProto.BFLOAT16, "bfloat16"),
        (TensorProto.BOOL, "bool"),
        (TensorProto.STRING, "string"),
    ],
)
def test_names_of_types(elem_type: int, name: str) -> None:
    assert dtype_name(elem_type) == name


# -- data outside, wherever it is ------------------------------------------------------------------


def moved_out(tensor: TensorProto, folder: Path, name: str) -> None:
    """Keep a tensor's data in a file of its own."""
    (folder / name).write_bytes(tensor.raw_data)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=name)


def scattered(folder: Path) -> Path:
    """Weights in a Constant, in both branches of an If, in a local function, and in a sparse initializer."""
    w = {name: np.full((2, 2), i + 1, np.float32) for i, name in enumerate(["constant", "then", "function"])}
    then = helper.make_graph(
        [node("MatMul", "x wt", "a")], "then", [], [value("a", 2, 2)], [numpy_helper.from_array(w["then"], "wt")]
    )
    other = helper.make_graph([node("Neg", "x", "b")], "other", [], [value("b", 2, 2)])
    own = [helper.make_node("Constant", [], ["k"], value=numpy_helper.from_array(w["function"]))]
    function = helper.make_function(
        "my.ops",
        "Scaled",
        ["a"],
        ["b"],
        [*own, helper.make_node("Mul", ["a", "k"], ["b"])],
        [helper.make_opsetid("", 18)],
    )
    nodes = [
        helper.make_node("Constant", [], ["k"], "n_k", value=numpy_helper.from_array(w["constant"])),
        node("MatMul", "x k", "m"),
        helper.make_node("If", ["yes"], ["i"], "n_i", then_branch=then, else_branch=other),
        helper.make_node("Scaled", ["i"], ["s"], "n_s", domain="my.ops"),
        node("Add", "m s", "ms"),
        node("Add", "ms sparse", "y"),
    ]
    sparse = helper.make_sparse_tensor(
        numpy_helper.from_array(np.ones(1, np.float32), "sparse"), numpy_helper.from_array(np.ones(1, np.int64)), [2]
    )
    weights = [numpy_helper.from_array(np.array(True), "yes")]
    graph = helper.make_graph(nodes, "g", [value("x", 2, 2)], [value("y", 2, 2)], weights, sparse_initializer=[sparse])
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("my.ops", 1)]
    made = helper.make_model(graph, opset_imports=opsets, functions=[function], ir_version=10)
    inner = {a.name: a.g for a in made.graph.node[2].attribute}
    for tensor, name in (
        (made.graph.node[0].attribute[0].t, "constant.bin"),
        (inner["then_branch"].initializer[0], "then.bin"),
        (made.functions[0].node[0].attribute[0].t, "function.bin"),
        (made.graph.sparse_initializer[0].values, "sparse.bin"),
    ):
        moved_out(tensor, folder, name)
    path = folder / "scattered.onnx"
    path.write_bytes(made.SerializeToString())
    return path


def test_data_of_constants_bodies_functions_and_sparse_tensors_are_found_and_taken_in(tmp_path: Path) -> None:
    path = scattered(tmp_path)
    assert [f.name for f in external_files(path)] == ["constant.bin", "function.bin", "sparse.bin", "then.bin"]
    (tmp_path / "alone").mkdir()
    save(read(path), tmp_path / "alone" / "whole.onnx")
    assert external_files(tmp_path / "alone" / "whole.onnx") == ()
    (y,) = run(tmp_path / "alone" / "whole.onnx", x=np.ones((2, 2), np.float32))
    np.testing.assert_array_equal(y, [[14, 15], [14, 15]])


# -- inputs ----------------------------------------------------------------------------------------


def with_inputs() -> onnx.ModelProto:
    """y = x · w; `w` is an input and an initializer, nothing reads `sid`, and an If's body alone reads `z`."""
    then = helper.make_graph([node("Identity", "z", "a")], "then", [], [value("a", 2, 2)])
    other = helper.make_graph([node("Neg", "z", "b")], "other", [], [value("b", 2, 2)])
    nodes = [
        node("MatMul", "x w", "m"),
        helper.make_node("If", ["yes"], ["i"], "n_i", then_branch=then, else_branch=other),
        node("Add", "m i", "y"),
    ]
    inputs = [value("x", 2, 2), value("w", 2, 2), value("sid", 1, dtype=INT64), value("z", 2, 2)]
    weights = {"w": np.ones((2, 2), np.float32), "yes": np.array(True)}
    return model(nodes, inputs, [value("y", 2, 2)], weights)


def test_weights_and_what_nothing_reads_are_taken_off_the_inputs() -> None:
    made = with_inputs()
    assert only_declared(made, ["x", "z"]) == ["sid"]
    assert [v.name for v in made.graph.input] == ["x", "z"]
    assert [t.name for t in made.graph.initializer] == ["w", "yes"]
    onnx.checker.check_model(made)


def test_what_is_declared_stays_an_input_and_loses_its_own_value() -> None:
    made = with_inputs()
    assert only_declared(made, ["x", "w", "sid", "z"]) == []
    assert [v.name for v in made.graph.input] == ["x", "w", "sid", "z"]
    assert [t.name for t in made.graph.initializer] == ["yes"]


def test_weights_of_a_file_older_than_initializers_of_their_own() -> None:
    made = with_inputs()
    made.ir_version = 3
    only_declared(made, ["x", "z"])
    onnx.checker.check_model(made)


def test_inputs_that_nothing_reads(tmp_path: Path) -> None:
    assert unread_inputs(saved(with_inputs(), tmp_path / "m.onnx")) == ["sid"]
