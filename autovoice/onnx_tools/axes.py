"""The declared name of every axis of every input and output, and whether the graph keeps what is declared.

What a file says of its outputs is a remark of whoever wrote it, true or not: exporters annotate sizes of the run that
they traced, and tools make names up. Where it contradicts the declaration, the graph is run and judged by its answers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import onnx

from autovoice.dims.expressions import ExprError, evaluate, symbols
from autovoice.dims.solving import with_formulas
from autovoice.errors import ExportError, choices, nearest
from autovoice.onnx_tools.io import dtype_name
from autovoice.onnx_tools.probe import Run

Runs = Callable[[onnx.ModelProto], list[Run]]
Declared = Mapping[str, Any]


def name_axes(
    model: onnx.ModelProto,
    inputs: Declared,
    outputs: Declared,
    formulas: Mapping[str, str],
    runs: Runs | None = None,
) -> None:
    """Give every axis of every input and output its declared name, in place, after checking that it is that axis.

    Inputs: a dynamic axis must be symbolic; one that is symbolic may be declared as a number. Outputs: what the file
    says must have the declared formula's value at many sizes, or else the graph must have it when it is run by
    `runs` at two sizes. Raises ExportError with the tensor, the axis, and both sides.
    """
    _check_names("input", [v.name for v in model.graph.input], inputs)
    _check_names("output", [v.name for v in model.graph.output], outputs)
    bound, doubts = _bound(model, inputs)
    for value in model.graph.output:
        _check_type(value, outputs[value.name], "output")
        doubts += _doubts(value, outputs[value.name]["shape"], bound, formulas)
    for value in model.graph.input:
        _declare(value, inputs[value.name]["shape"])
    for value in model.graph.output:
        value.type.tensor_type.ClearField("shape")
    # the exporter's own symbols between inputs and outputs mean nothing to a reader; engines infer them again
    del model.graph.value_info[:]
    if doubts:
        _judge(doubts, runs(model) if runs is not None else [], outputs)
    for value in model.graph.output:
        _declare(value, outputs[value.name]["shape"])


def _declare(value: onnx.ValueInfoProto, shape: Sequence[str | int]) -> None:
    value.type.tensor_type.ClearField("shape")
    value.type.tensor_type.shape.SetInParent()
    for axis in shape:
        made = value.type.tensor_type.shape.dim.add()
        if isinstance(axis, int):
            made.dim_value = axis
        else:
            made.dim_param = axis


def _judge(doubts: Sequence[ExportError], runs: Sequence[Run], outputs: Declared) -> None:
    """Raise what was doubted, unless the graph ran at two sizes and had the declared ones."""
    needed = 2 if any(symbols(a) for o in outputs.values() for a in o["shape"]) else 1
    firm = [d for d in doubts if not isinstance(d, _Unsaid)]
    if firm and len(runs) < needed:
        raise firm[0]
    for tied in (d for d in doubts if isinstance(d, _Tied)):
        if not any(evaluate(tied.axes[0], r.sizes) != evaluate(tied.axes[1], r.sizes) for r in runs):
            raise tied
    for run in runs:
        for name, declared in outputs.items():
            fault = _real_fault(name, declared["shape"], run)
            if fault is not None:  # an expression in the exporter's symbols says more, and is right
                told = (d for d in doubts if isinstance(d, _Formula) and d.output == name)
                raise next(told, fault)


def _real_fault(name: str, declared: Sequence[str | int], run: Run) -> ExportError | None:
    got = list(run.outputs[name].shape)
    wanted = [evaluate(a, run.sizes) for a in declared]
    if got == wanted:
        return None
    at = ", ".join(f"{n}={v}" for n, v in sorted(run.sizes.items())) or "its fixed sizes"
    return ExportError(
        f"output '{name}' is {got} when the graph is run at {at}, declared {list(declared)}, which is {wanted}",
        "correct the declared shape; an axis that stays the same is one that forward() turned into a constant",
    )


class _Unsaid(ExportError):
    """The file says nothing of an axis that is declared: a later run will tell."""


class _Formula(ExportError):
    """The file has another expression for an axis of this output."""

    def __init__(self, fact: str, fix: str, output: str) -> None:
        super().__init__(fact, fix)
        self.output = output


class _Tied(ExportError):
    """The file has one name for two axes that are declared apart: only runs at which they differ say otherwise."""

    def __init__(self, fact: str, fix: str, axes: tuple[str | int, str | int]) -> None:
        super().__init__(fact, fix)
        self.axes = axes


# -- names and types -----------------------------------------------------------------------------


def _check_names(kind: str, got: list[str], declared: Declared) -> None:
    for name in declared:
        if name not in got:
            raise ExportError(f"the ONNX file has no {kind} '{name}'", nearest(name, got))
    for name in got:
        if name not in declared:
            raise ExportError(
                f"the ONNX file has an {kind} '{name}' that is not declared", f"declared: {choices(declared)}"
            )


def _check_type(value: onnx.ValueInfoProto, declared: Mapping[str, Any], kind: str) -> None:
    if value.type.WhichOneof("value") not in (None, "tensor_type"):
        what = str(value.type.WhichOneof("value")).removesuffix("_type")
        raise ExportError(f"{kind} '{value.name}' is a {what} in the ONNX file", "components exchange tensors alone")
    dtype = dtype_name(value.type.tensor_type.elem_type)
    if dtype != declared["dtype"]:
        raise ExportError(
            f"{kind} '{value.name}' is {dtype} in the ONNX file, declared {declared['dtype']}",
            "correct the declared dtype, or convert inside the component",
        )


def _declared_axes(value: onnx.ValueInfoProto) -> list[str | int]:
    return [d.dim_param or (d.dim_value if d.HasField("dim_value") else "dynamic") for d in _axes(value)]


def _axes(value: onnx.ValueInfoProto) -> Any:
    return value.type.tensor_type.shape.dim


# -- inputs --------------------------------------------------------------------------------------


def _bound(model: onnx.ModelProto, inputs: Declared) -> tuple[dict[str, str | int], list[ExportError]]:
    """The file's symbols → the declared axes, and where two axes are declared apart that the file ties together."""
    bound: dict[str, str | int] = {}
    doubts: list[ExportError] = []
    for value in model.graph.input:
        want = inputs[value.name]["shape"]
        _check_type(value, inputs[value.name], "input")
        if not value.type.tensor_type.HasField("shape"):
            continue
        if len(_axes(value)) != len(want):
            fact = f"input '{value.name}' is {_declared_axes(value)} in the ONNX file, declared {want}"
            raise ExportError(fact, "correct the declared shape")
        for i, (axis, name) in enumerate(zip(_axes(value), want, strict=True)):
            where = f"input '{value.name}' axis {i}"
            if axis.HasField("dim_value"):
                _check_fixed(where, axis.dim_value, name)
            # an existing file may leave an axis unnamed, which ties it to nothing
            elif axis.dim_param and bound.setdefault(axis.dim_param, name) != name:
                fact = f"{where} is declared '{name}', but the module ties it to '{bound[axis.dim_param]}'"
                doubts.append(_Tied(fact, "declare both axes by the same symbol", (name, bound[axis.dim_param])))
    return bound, doubts


def _check_fixed(where: str, size: int, want: str | int) -> None:
    if want == size:
        return
    if isinstance(want, int):
        raise ExportError(f"{where} is {size}, declared {want}", "correct the declared shape")
    raise ExportError(
        f"{where} is fixed at {size}, declared dynamic ('{want}')",
        "something in forward() turns this size into a constant; or declare the number",
    )


# -- outputs -------------------------------------------------------------------------------------


def _doubts(
    value: onnx.ValueInfoProto,
    declared: Sequence[str | int],
    bound: Mapping[str, str | int],
    formulas: Mapping[str, str],
) -> list[ExportError]:
    """Where the file's remark on an output contradicts the declaration."""
    if not value.type.tensor_type.HasField("shape"):
        return [_Unsaid(f"output '{value.name}' has no shape in the ONNX file, declared {declared}")]
    if len(_axes(value)) != len(declared):
        fact = f"output '{value.name}' is {_declared_axes(value)} in the ONNX file, declared {declared}"
        return [ExportError(fact, "correct the declared shape")]
    found = []
    for i, (axis, want) in enumerate(zip(_axes(value), declared, strict=True)):
        try:
            _check_output(value.name, i, axis, want, bound, formulas)
        except ExportError as e:
            found.append(e)
    return found


def _check_output(
    name: str, i: int, axis: Any, want: str | int, bound: Mapping[str, str | int], formulas: Mapping[str, str]
) -> None:
    where = f"output '{name}' axis {i}"
    if axis.HasField("dim_value"):
        _check_fixed(where, axis.dim_value, want)
    elif isinstance(want, int) and bound.get(axis.dim_param) != want:
        raise _Unsaid(f"{where} is '{axis.dim_param or 'dynamic'}', declared {want}", "correct the declared shape")
    elif isinstance(want, str):
        try:
            _check_formula(where, axis.dim_param, want, bound, formulas)
        except ExportError as e:
            raise _Formula(e.fact, e.fix, name) from e


def _check_formula(
    where: str, got: str, want: str, bound: Mapping[str, str | int], formulas: Mapping[str, str]
) -> None:
    """Compare two expressions by value: the exporter's, in its own symbols, and the declared one."""
    if not got:  # an unnamed axis of an existing file: nothing to compare, verification measures it
        return
    try:
        unknown = symbols(got) - bound.keys()
    except ExprError:
        return  # not arithmetic this tool reads: verification compares real sizes
    if unknown:
        return
    free = {s for axis in (*bound.values(), want) for s in symbols(axis)} - formulas.keys()
    for env in _sizes(sorted(free)):
        full = with_formulas(env, formulas)
        try:
            expected = evaluate(want, full)
            real = evaluate(got, {symbol: evaluate(axis, full) for symbol, axis in bound.items()})
        except (ExprError, KeyError):
            continue
        if real >= 1 and real != expected:
            sizes = ", ".join(f"{n}={v}" for n, v in env.items())
            raise ExportError(
                f"{where} is '{got}', declared '{want}': {real} against {expected} at {sizes}",
                "correct the formula in dims or in the shape",
            )


def _sizes(names: list[str]) -> list[dict[str, int]]:
    """Sizes that tell formulas apart: small and large, even and odd, every symbol another value."""
    base = (2, 3, 7, 16, 31, 100, 641, 1280, 3999, 16001)
    return [{n: base[(s + 3 * i) % len(base)] + s for i, n in enumerate(names)} for s in range(len(base))]
