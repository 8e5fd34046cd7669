from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from autovoice.errors import ExportError
from autovoice.onnx_io import dtype_name, external_files, name_axes, name_nodes, read, save, simplified
from tests.onnx_models import FLOAT, INT64, model, node, run, saved, value


def tensor(*shape: int | str, dtype: str = "float32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": list(shape)}


def doubled() -> onnx.ModelProto:
    """x [b, t] → y [b, 2*t], with the symbols an exporter would choose."""
    return model([node("Concat", "x x", "y", axis=1)], [value("x", "s0", "s1")], [value("y", "s0", "2*s1")])


def axes_of(made: onnx.ModelProto) -> dict[str, list[str | int]]:
    values = (*made.graph.input, *made.graph.output)
    return {v.name: [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim] for v in values}


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


def test_simplified_graphs_compute_the_same(tmp_path: Path) -> None:
    nodes = [node("Identity", "x", "a"), node("Add", "one one", "two"), node("Mul", "a two", "y")]
    made = model(nodes, [value("x", 3)], [value("y", 3)], {"one": np.ones(3, np.float32)})
    slim = simplified(made)
    assert [n.op_type for n in slim.graph.node] == ["Mul"]
    (y,) = run(saved(slim, tmp_path / "m.onnx"), x=np.arange(3, dtype=np.float32))
    np.testing.assert_array_equal(y, [0, 2, 4])


def test_every_node_gets_a_name_of_its_own_and_those_that_have_one_keep_it() -> None:
    made = doubled()
    names = ["conv", "", "Concat_1", "conv", ""]
    made.graph.node.extend([made.graph.node[0]] * (len(names) - 1))
    for n, name in zip(made.graph.node, names, strict=True):
        n.name = name
    name_nodes(made)
    assert [n.name for n in made.graph.node] == ["conv", "Concat_1", "Concat_1_2", "conv_3", "Concat_4"]


# -- naming axes -----------------------------------------------------------------------------------


def test_axes_take_their_declared_names() -> None:
    made = doubled()
    name_axes(made, {"x": tensor("batch", "frames")}, {"y": tensor("batch", "2*frames")}, {})
    assert axes_of(made) == {"x": ["batch", "frames"], "y": ["batch", "2*frames"]}


def test_named_axes_may_be_named_again() -> None:
    made = doubled()
    for _ in range(2):
        name_axes(made, {"x": tensor("batch", "frames")}, {"y": tensor("batch", "2*frames")}, {})
    assert axes_of(made)["y"] == ["batch", "2*frames"]


def test_a_derived_dim_is_compared_by_its_formula() -> None:
    made = doubled()
    name_axes(made, {"x": tensor("batch", "frames")}, {"y": tensor("batch", "long")}, {"long": "frames*2"})
    assert axes_of(made)["y"] == ["batch", "long"]


def test_another_spelling_of_the_same_size_is_the_same() -> None:
    made = doubled()
    made.graph.output[0].type.tensor_type.shape.dim[1].dim_param = "floor(4*s1/2)"
    name_axes(made, {"x": tensor("batch", "frames")}, {"y": tensor("batch", "frames + frames")}, {})
    assert axes_of(made)["y"] == ["batch", "frames + frames"]


@pytest.mark.parametrize("got", ["", "unk__3", "s1 if s0 else 2"], ids=["unnamed", "unknown_symbol", "no_arithmetic"])
def test_an_axis_that_says_nothing_is_left_to_verification(got: str) -> None:
    made = doubled()
    made.graph.output[0].type.tensor_type.shape.dim[1].dim_param = got
    name_axes(made, {"x": tensor("batch", "frames")}, {"y": tensor("batch", "3*frames")}, {})
    assert axes_of(made)["y"] == ["batch", "3*frames"]


def test_symbols_inside_the_graph_are_dropped() -> None:
    nodes = [node("Neg", "x", "a"), node("Neg", "a", "y")]
    made = model(nodes, [value("x", "s0")], [value("y", "s0")])
    made.graph.value_info.append(value("a", "s0"))
    name_axes(made, {"x": tensor("frames")}, {"y": tensor("frames")}, {})
    assert list(made.graph.value_info) == []


@pytest.mark.parametrize(
    ("x", "y", "fact"),
    [
        pytest.param(
            {"z": tensor("b", "t")},
            {"y": tensor("b", "2*t")},
            "the ONNX file has no input 'z'\n  available: x",
            id="input_name",
        ),
        pytest.param(
            {"x": tensor("b", "t")},
            {"yy": tensor("b", "2*t")},
            "the ONNX file has no output 'yy'\n  did you mean 'y'? available: y",
            id="output_name",
        ),
        pytest.param(
            {"x": tensor("b", "t")},
            {},
            "the ONNX file has an output 'y' that is not declared\n  declared: none",
            id="undeclared",
        ),
        pytest.param(
            {"x": tensor("b", "t", dtype="int64")},
            {"y": tensor("b", "2*t")},
            "input 'x' is float32 in the ONNX file, declared int64\n  correct the declared dtype",
            id="dtype",
        ),
        pytest.param(
            {"x": tensor("b", 1, "t")},
            {"y": tensor("b", "2*t")},
            "input 'x' is ['s0', 's1'] in the ONNX file, declared ['b', 1, 't']",
            id="rank",
        ),
        pytest.param(
            {"x": tensor(1, "t")},
            {"y": tensor("b", "2*t")},
            "input 'x' axis 0 is 's0', declared 1\n  correct the declared shape",
            id="dynamic_for_fixed",
        ),
        pytest.param(
            {"x": tensor("b", "t")},
            {"y": tensor("b", "2*t + 1")},
            "output 'y' axis 1 is '2*s1', declared '2*t + 1': ",
            id="formula",
        ),
        pytest.param(
            {"x": tensor("b", "t")},
            {"y": tensor("t", "2*t")},
            "output 'y' axis 0 is 's0', declared 't': ",
            id="another_symbol",
        ),
    ],
)
def test_a_declaration_that_is_not_what_the_file_says(x: dict, y: dict, fact: str) -> None:
    with pytest.raises(ExportError) as raised:
        name_axes(doubled(), x, y, {})
    assert str(raised.value).startswith(fact)


def test_a_formula_that_is_wrong_at_odd_sizes_only() -> None:
    made = doubled()
    made.graph.output[0].type.tensor_type.shape.dim[1].dim_param = "s1//2"
    with pytest.raises(ExportError, match=r"declared 'CeilDiv\(t, 2\)': \d+ against \d+ at b=\d+, t=\d*[13579]\n"):
        name_axes(made, {"x": tensor("b", "t")}, {"y": tensor("b", "CeilDiv(t, 2)")}, {})


def test_a_size_that_became_a_constant() -> None:
    made = model([node("Neg", "x", "y")], [value("x", 1, 24)], [value("y", 1, 24)])
    with pytest.raises(ExportError) as raised:
        name_axes(made, {"x": tensor(1, "frames")}, {"y": tensor(1, "frames")}, {})
    assert raised.value.fact == "input 'x' axis 1 is fixed at 24, declared dynamic ('frames')"
    assert raised.value.fix.startswith("something in forward() turns this size into a constant")


def test_another_fixed_size() -> None:
    made = model([node("Neg", "x", "y")], [value("x", 1, 24)], [value("y", 1, 24)])
    with pytest.raises(ExportError, match="input 'x' axis 1 is 24, declared 80"):
        name_axes(made, {"x": tensor(1, 80)}, {"y": tensor(1, 80)}, {})


def test_two_axes_that_the_module_ties_together() -> None:
    inputs = [value("x", "s0"), value("z", "s0", dtype=FLOAT)]
    made = model([node("Add", "x z", "y")], inputs, [value("y", "s0")])
    with pytest.raises(ExportError) as raised:
        name_axes(made, {"x": tensor("frames"), "z": tensor("samples")}, {"y": tensor("frames")}, {})
    assert str(raised.value) == (
        "input 'z' axis 0 is declared 'samples', but the module ties it to 'frames'\n"
        "  declare both axes by the same symbol"
    )


def test_whole_numbers_are_declared_as_such() -> None:
    made = model([node("Neg", "x", "y")], [value("x", 2, dtype=INT64)], [value("y", 2, dtype=INT64)])
    name_axes(made, {"x": tensor(2, dtype="int64")}, {"y": tensor(2, dtype="int64")}, {})
    assert axes_of(made) == {"x": [2], "y": [2]}
