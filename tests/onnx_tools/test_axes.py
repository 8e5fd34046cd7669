from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

from autovoice.errors import ExportError
from autovoice.onnx_tools.axes import name_axes
from autovoice.onnx_tools.probe import Probe
from tests.onnx_models import FLOAT, INT64, model, node, value


def tensor(*shape: int | str, dtype: str = "float32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": list(shape)}


def doubled() -> onnx.ModelProto:
    """x [b, t] → y [b, 2*t], with the symbols an exporter would choose."""
    return model([node("Concat", "x x", "y", axis=1)], [value("x", "s0", "s1")], [value("y", "s0", "2*s1")])


def axes_of(made: onnx.ModelProto) -> dict[str, list[str | int]]:
    values = (*made.graph.input, *made.graph.output)
    return {v.name: [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim] for v in values}


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
            "output 'y' axis 0 is 's0', declared 'b': 1 against ",
            id="fixed_in_and_dynamic_out",
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


# -- annotations that are wrong ---------------------------------------------------------------------


def judged(made: onnx.ModelProto, x: dict, y: dict, trace: dict[str, int]) -> None:
    name_axes(made, {"x": x}, {"y": y}, {}, Probe({"x": x}, {"y": y}, trace, {}).runs)


def annotated(made: onnx.ModelProto, *shape: int | str) -> onnx.ModelProto:
    made.graph.output[0].CopyFrom(value("y", *shape))
    return made


@pytest.mark.parametrize(
    "said",
    [("s0", 26), (24, 26), ("s0", "s1"), ("Addy_dim_0", "Addy_dim_1"), ("s0",), ("s0", 1, "s1")],
    ids=["traced_size", "both_traced", "another_formula", "any_names", "lower_rank", "higher_rank"],
)
def test_a_graph_that_does_as_declared_is_taken_whatever_its_output_is_said_to_be(said: tuple) -> None:
    made = annotated(doubled(), *said)
    judged(made, tensor("batch", "frames"), tensor("batch", "2*frames"), {"batch": 24, "frames": 26})
    assert axes_of(made)["y"] == ["batch", "2*frames"]


def test_an_output_without_any_shape() -> None:
    made = doubled()
    made.graph.output[0].type.tensor_type.ClearField("shape")
    judged(made, tensor("batch", "frames"), tensor("batch", "2*frames"), {"batch": 24, "frames": 26})
    assert axes_of(made)["y"] == ["batch", "2*frames"]


def test_a_number_for_an_axis_that_any_name_was_given() -> None:
    made = model([node("Neg", "x", "y")], [value("x", "b", 8)], [value("y", "b", "unk__1")])
    judged(made, tensor("n", 8), tensor("n", 8), {"n": 24})
    assert axes_of(made)["y"] == ["n", 8]


def test_a_number_that_the_axis_has_not() -> None:
    made = model([node("Neg", "x", "y")], [value("x", "b", 8)], [value("y", "b", "unk__1")])
    with pytest.raises(
        ExportError, match=r"output 'y' is \[24, 8\] when the graph is run at n=24, declared \['n', 7\]"
    ):
        judged(made, tensor("n", 8), tensor("n", 7), {"n": 24})


def test_an_axis_that_is_really_frozen_is_refused_though_it_runs_at_every_size() -> None:
    """The output is cut to 26, the size of tracing: only a second size tells."""
    cut = {"from": np.array([0]), "to": np.array([26]), "along": np.array([1])}
    made = model([node("Slice", "x from to along", "y")], [value("x", "s0", "s1")], [value("y", "s0", 26)], cut)
    with pytest.raises(ExportError) as raised:
        judged(made, tensor("n", "t"), tensor("n", "t"), {"n": 24, "t": 26})
    assert raised.value.fact == (
        "output 'y' is [48, 26] when the graph is run at n=48, t=52, declared ['n', 't'], which is [48, 52]"
    )
    assert "an axis that stays the same is one that forward() turned into a constant" in raised.value.fix


def test_a_graph_that_runs_at_its_one_size_alone_is_refused_by_what_it_says() -> None:
    shape = {"to": np.array([24, 26])}
    made = model([node("Reshape", "x to", "y")], [value("x", "s0", "s1")], [value("y", 24, 26)], shape)
    with pytest.raises(ExportError, match="output 'y' axis 0 is fixed at 24, declared dynamic"):
        judged(made, tensor("n", "t"), tensor("n", "t"), {"n": 24, "t": 26})


def test_an_input_that_is_symbolic_may_be_declared_a_number() -> None:
    made = doubled()
    judged(made, tensor(1, "frames"), tensor(1, "2*frames"), {"frames": 26})
    assert axes_of(made) == {"x": [1, "frames"], "y": [1, "2*frames"]}


def test_axes_that_share_a_name_in_the_file_and_are_not_tied_by_the_graph() -> None:
    inputs = {"x": tensor("frames"), "z": tensor("samples")}
    made = model([node("Concat", "x z", "y", axis=0)], [value("x", "N"), value("z", "N")], [value("y", "M")])
    trace, outputs = {"frames": 24, "samples": 26}, {"y": tensor("frames + samples")}
    name_axes(made, inputs, outputs, {}, Probe(inputs, outputs, trace, {}).runs)
    assert axes_of(made)["z"] == ["samples"]


def test_axes_that_the_graph_does_tie() -> None:
    inputs, y = {"x": tensor("frames"), "z": tensor("samples")}, tensor("frames")
    made = model([node("Add", "x z", "y")], [value("x", "N"), value("z", "N")], [value("y", "N")])
    with pytest.raises(ExportError, match="input 'z' axis 0 is declared 'samples', but the module ties it to 'frames'"):
        name_axes(made, inputs, {"y": y}, {}, Probe(inputs, {"y": y}, {"frames": 24, "samples": 26}, {}).runs)


def test_an_output_that_is_no_tensor() -> None:
    made = model([node("SequenceConstruct", "x x", "y")], [value("x", 3)], [])
    made.graph.output.append(onnx.helper.make_tensor_sequence_value_info("y", FLOAT, [3]))
    with pytest.raises(ExportError, match="output 'y' is a sequence in the ONNX file"):
        name_axes(made, {"x": tensor(3)}, {"y": tensor(2, 3)}, {})
