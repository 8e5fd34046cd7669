"""Weights in an exported graph are called what the module calls them."""

from __future__ import annotations

import logging
import sys
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from autovoice.errors import ExportError
from autovoice.steps.context import Context
from autovoice.steps.export import check_outputs, name_weights, run


@pytest.fixture(autouse=True)
def seeded(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    monkeypatch.setattr(logging.getLogger("torch.onnx"), "disabled", True)


def product(*weights: tuple[str, np.ndarray], output: str = "y") -> onnx.ModelProto:
    """x multiplied by one named matrix after another."""
    nodes, last = [], "x"
    for i, (name, _) in enumerate(weights):
        made = output if i == len(weights) - 1 else f"step_{i}"
        nodes.append(helper.make_node("MatMul", [last, name], [made]))
        last = made
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", weights[0][1].shape[0]])
    y = helper.make_tensor_value_info(output, TensorProto.FLOAT, ["n", weights[-1][1].shape[1]])
    tensors = [numpy_helper.from_array(np.ascontiguousarray(w), name) for name, w in weights]
    graph = helper.make_graph(nodes, "product", [x], [y], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def names(model: onnx.ModelProto) -> list[str]:
    return [t.name for t in model.graph.initializer]


def answers(model: onnx.ModelProto, width: int) -> np.ndarray:
    onnx.checker.check_model(model)
    x = np.random.default_rng(0).standard_normal((3, width), dtype=np.float32)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0]


def stack(*widths: int) -> nn.Sequential:
    return nn.Sequential(*(nn.Linear(a, b) for a, b in pairwise(widths)))


def array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().numpy()


def test_a_parameter_and_a_transpose_get_their_names_and_the_graph_computes_the_same() -> None:
    module = stack(4, 3, 4)
    first, second = array(module[0].weight).T, array(module[1].weight)
    model = product(("val_1", first), ("val_2", second.T))
    before = answers(model, 4)
    name_weights(model, module)
    assert names(model) == ["0.weight", "1.weight"]
    assert [list(n.input) for n in model.graph.node] == [["x", "0.weight"], ["step_0", "1.weight"]]
    np.testing.assert_array_equal(answers(model, 4), before)


def test_a_parameter_as_it_stands() -> None:
    module = stack(4, 3)
    model = product(("val_1", array(module[0].weight)))  # [3, 4], not transposed
    name_weights(model, module)
    assert names(model) == ["0.weight"]


def test_a_convolution_keeps_its_three_axes() -> None:
    module = nn.Sequential(nn.Conv1d(2, 5, 3))
    model = product(("other", np.ones((4, 4), np.float32)))
    model.graph.initializer.append(numpy_helper.from_array(array(module[0].weight), "val_9"))
    name_weights(model, module)
    assert names(model) == ["other", "0.weight"]


def test_one_bit_of_difference_is_another_tensor() -> None:
    module = stack(4, 3)
    changed = array(module[0].weight).T.copy()
    changed[0, 0] = np.nextafter(changed[0, 0], np.float32(9))
    model = product(("val_1", changed))
    name_weights(model, module)
    assert names(model) == ["val_1"]


def test_the_same_values_in_another_shape_are_another_tensor() -> None:
    module = stack(6, 4)
    model = product(("val_1", array(module[0].weight).reshape(8, 3)))
    name_weights(model, module)
    assert names(model) == ["val_1"]


def test_equal_parameters_are_left_as_they_are() -> None:
    module = stack(4, 4, 4, 4)
    with torch.no_grad():
        module[1].weight.copy_(module[0].weight)
    weights = [array(layer.weight).T for layer in module]
    model = product(*((f"val_{i}", w) for i, w in enumerate(weights)))
    name_weights(model, module)
    assert names(model) == ["val_0", "val_1", "2.weight"]


def test_a_parameter_that_equals_the_transpose_of_another_is_left_too() -> None:
    module = stack(4, 3, 4)
    with torch.no_grad():
        module[1].weight.copy_(module[0].weight.T)
    model = product(("val_1", array(module[0].weight).T))
    name_weights(model, module)
    assert names(model) == ["val_1"]


def test_a_parameter_used_twice_names_one_tensor_only() -> None:
    module = stack(4, 4)
    weight = array(module[0].weight)
    model = product(("val_1", weight.T), ("val_2", weight.T))
    before = answers(model, 4)
    name_weights(model, module)
    assert names(model) == ["0.weight", "val_2"]
    np.testing.assert_array_equal(answers(model, 4), before)


def test_vectors_are_left_as_they_are() -> None:
    module = stack(4, 3)
    model = product(("val_1", np.ones((4, 3), np.float32)))
    model.graph.initializer.append(numpy_helper.from_array(array(module[0].bias), "val_2"))
    name_weights(model, module)
    assert names(model) == ["val_1", "val_2"]


def test_a_name_that_another_tensor_has_is_left_alone() -> None:
    module = stack(4, 4)
    other = np.full((4, 4), 0.5, np.float32)
    model = product(("val_1", array(module[0].weight).T), ("0.weight", other))
    before = answers(model, 4)
    name_weights(model, module)
    assert names(model) == ["val_1", "0.weight"]
    np.testing.assert_array_equal(answers(model, 4), before)


def test_a_name_that_a_node_makes_is_left_alone() -> None:
    module = stack(4, 3)
    model = product(("val_1", array(module[0].weight).T), output="0.weight")
    name_weights(model, module)
    assert names(model) == ["val_1"]
    assert answers(model, 4).shape == (3, 3)


def test_a_parameter_that_is_an_output_keeps_the_outputs_name() -> None:
    """What `forward` returns of its own parameters is exported as an initializer by the output's name."""
    module = stack(4, 3)
    model = product(("table", array(module[0].weight).T))
    model.graph.output.append(helper.make_tensor_value_info("table", TensorProto.FLOAT, [4, 3]))
    before = answers(model, 4)
    name_weights(model, module)
    np.testing.assert_array_equal(answers(model, 4), before)
    assert [o.name for o in model.graph.output] == ["y", "table"]


def test_a_parameter_that_a_branch_reads() -> None:
    module = stack(4, 3)
    model = product(("val_1", array(module[0].weight).T))
    y = helper.make_tensor_value_info("from_branch", TensorProto.FLOAT, ["n", 3])
    branch = helper.make_graph([helper.make_node("MatMul", ["x", "val_1"], ["from_branch"])], "branch", [], [y])
    model.graph.initializer.append(numpy_helper.from_array(np.array(True), "always"))
    model.graph.node.pop()
    model.graph.node.append(helper.make_node("If", ["always"], ["y"], then_branch=branch, else_branch=branch))
    before = answers(model, 4)
    name_weights(model, module)
    np.testing.assert_array_equal(answers(model, 4), before)


def test_a_module_that_stores_bfloat16() -> None:
    """It is exported in float32 where forward casts; the file itself has no tensor of it."""
    module = stack(4, 3).to(torch.bfloat16)
    model = product(("val_1", np.ones((4, 3), np.float32)))
    name_weights(model, module)
    assert names(model) == ["val_1"]


# -- through an export -----------------------------------------------------------------------------

VECTOR = {"dtype": "float32", "shape": ["n", "length", 6]}


class Head(nn.Module):
    """Two linear layers over [n, length, 6]: each becomes a MatMul by a transpose."""

    def __init__(self) -> None:
        super().__init__()
        self.lift = nn.Linear(6, 10)
        self.drop = nn.Sequential(nn.ReLU(), nn.Linear(10, 3, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        return self.drop(self.lift(x))


def exported(
    module: type[nn.Module], folder: Path, patch: pytest.MonkeyPatch, simplify: bool = True
) -> onnx.ModelProto:
    package = ModuleType("heads")
    package.made = module  # type: ignore[attr-defined]
    patch.setitem(sys.modules, "heads", package)
    fields = {
        "model": {"target": "heads.made", "kwargs": {}},
        "seed": 0,
        "checkpoint": None,
        "inputs": {"x": VECTOR},
        "outputs": {"y": {"dtype": "float32", "shape": ["n", "length", 3]}},
        "output_order": ["y"],
        "trace": {"n": 2, "length": 5},
        "formulas": {},
        "export": {"opset": 18, "simplify": simplify},
    }
    run(Context(fields, {}, {}, folder))
    return onnx.load(folder / "model.onnx")


@pytest.mark.parametrize("simplify", [True, False], ids=["simplified", "as exported"])
def test_matrix_products_of_linear_layers_carry_the_parameters_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, simplify: bool
) -> None:
    model = exported(Head, tmp_path, monkeypatch, simplify)
    products = [n for n in model.graph.node if n.op_type == "MatMul"]
    assert [n.input[1] for n in products] == ["lift.weight", "drop.1.weight"]
    torch.manual_seed(0)
    head = Head()
    stored = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    np.testing.assert_array_equal(stored["lift.weight"], array(head.lift.weight).T)
    x = np.random.default_rng(0).standard_normal((3, 4, 6), dtype=np.float32)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    (got,) = session.run(None, {"x": x})
    np.testing.assert_allclose(got, array(head(torch.from_numpy(x))), atol=1e-5)


def test_names_are_unique_and_every_node_reads_what_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = exported(Head, tmp_path, monkeypatch)
    onnx.checker.check_model(model, full_check=True)
    assert len(set(names(model))) == len(names(model))


# -- what is declared ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("made", "fact", "fix"),
    [
        (
            torch.zeros(2, 3, dtype=torch.float16),
            "output 'y' is float16, declared float32",
            "component.<name>.outputs.mel.dtype=float16, or convert it in forward()",
        ),
        (
            torch.zeros(2, 3, dtype=torch.bfloat16),
            "output 'y' is bfloat16, declared float32",
            "convert it in forward()",  # no tensor can be declared so
        ),
        (
            torch.zeros(2, 4),
            "output 'y' is [2, 4], declared ['n', 3]",
            "traced with n=2; correct component.<name>.outputs.mel.shape",
        ),
    ],
    ids=["dtype", "dtype_of_no_tensor", "shape"],
)
def test_another_output_than_declared_is_corrected_where_the_wire_stands(made: Tensor, fact: str, fix: str) -> None:
    """Its own name may be another one than its wire's, which the configuration has as the key."""
    x, y = {"dtype": "float32", "shape": ["n", 3]}, {"dtype": "float32", "shape": ["n", 3], "wire": "mel"}
    with pytest.raises(ExportError) as raised:
        check_outputs({"y": made}, {"inputs": {"x": x}, "outputs": {"y": y}, "trace": {"n": 2}})
    assert (raised.value.fact, raised.value.fix) == (fact, fix)
