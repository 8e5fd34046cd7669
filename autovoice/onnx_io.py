"""ONNX files: reading them safely, naming their axes as declared, saving them. Needs onnx, not torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import DecodeError

from autovoice.errors import ExportError, LoweringError, choices, nearest
from autovoice.expr import ExprError, evaluate, symbols

_DTYPES = {
    onnx.TensorProto.FLOAT: "float32",
    onnx.TensorProto.FLOAT16: "float16",
    onnx.TensorProto.BFLOAT16: "bfloat16",
    onnx.TensorProto.INT64: "int64",
    onnx.TensorProto.INT32: "int32",
    onnx.TensorProto.INT16: "int16",
    onnx.TensorProto.INT8: "int8",
    onnx.TensorProto.UINT8: "uint8",
    onnx.TensorProto.BOOL: "bool",
    onnx.TensorProto.DOUBLE: "float64",
    onnx.TensorProto.FLOAT8E4M3FN: "float8e4m3fn",
}


#: operators with the arithmetic that precision is asked for
HEAVY = (
    "Conv",
    "ConvTranspose",
    "MatMul",
    "Gemm",
    "LSTM",
    "GRU",
    "RNN",
    "FusedConv",
    "FusedMatMul",
    "FusedGemm",
)


def dtype_name(elem_type: int) -> str:
    return _DTYPES.get(elem_type, onnx.TensorProto.DataType.Name(elem_type).lower())


def read(path: Path) -> onnx.ModelProto:
    """A whole model, its external data (inside its own folder only) taken in. Raises ExportError."""
    model = _proto(path)
    external_files(path)
    try:
        onnx.load_external_data_for_model(model, str(path.parent))
    except (OSError, ValueError, onnx.checker.ValidationError) as e:
        raise ExportError(f"{path}: its external data cannot be read", _line(e)) from e
    return model


def external_files(path: Path) -> tuple[Path, ...]:
    """The files, inside an ONNX file's own folder only, that hold its weights. Raises ExportError."""
    tensors = _proto(path).graph.initializer
    names = {e.value for t in tensors for e in t.external_data if e.key == "location"}
    return tuple(_check_inside(path, name) for name in sorted(names))


def _proto(path: Path) -> onnx.ModelProto:
    try:
        model = onnx.load(path, load_external_data=False)
    except (DecodeError, ValueError, OSError) as e:
        raise ExportError(f"{path}: not a readable ONNX file", f"{_line(e)}; it may be truncated") from e
    if not model.graph.node and not model.graph.output:
        raise ExportError(f"{path}: not a readable ONNX file", "it holds no graph; it may be truncated")
    return model


def _check_inside(path: Path, location: str) -> Path:
    folder = path.parent.resolve()
    target = (folder / location).resolve()
    if not target.is_relative_to(folder):
        raise ExportError(
            f"{path}: its external data lies outside its folder: {location}",
            "put the weights beside the file; paths out of it are refused",
        )
    return target


def save(model: onnx.ModelProto, path: Path) -> None:
    """Write one self-contained file. Raises ExportError above protobuf's 2 GiB."""
    try:
        path.write_bytes(model.SerializeToString(deterministic=True))
    except ValueError as e:
        raise ExportError(f"the model is larger than 2 GiB: {_line(e)}", "split the component in two") from e


def at_opset(model: onnx.ModelProto, least: int) -> onnx.ModelProto:
    """A copy at opset `least` or newer."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    if max((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), default=1) < least:
        try:
            copy = onnx.version_converter.convert_version(model, least)
        except (onnx.version_converter.ConvertError, RuntimeError, ValueError) as e:
            raise LoweringError(
                f"the graph cannot be brought to opset {least}: {str(e).splitlines()[0]}",
                f"export it at opset {least} or newer",
            ) from e
        del copy.graph.value_info[:]  # what the converter inferred on its way
    copy.ir_version = max(copy.ir_version, 9)  # the first with float8
    return copy


def name_nodes(model: onnx.ModelProto) -> None:
    """Give every node a name of its own, in place: precisions tell nodes apart by name, ONNX files need not."""
    taken: set[str] = set()
    for i, node in enumerate(model.graph.node):
        node.name = node.name or f"{node.op_type}_{i}"
        while node.name in taken:
            node.name += f"_{i}"
        taken.add(node.name)


def simplified(model: onnx.ModelProto) -> onnx.ModelProto:
    """onnxslim's constant folding and shape clean-up."""
    import onnxslim

    return onnxslim.slim(model)


def name_axes(
    model: onnx.ModelProto,
    inputs: Mapping[str, Any],
    outputs: Mapping[str, Any],
    formulas: Mapping[str, str],
) -> None:
    """Give every axis of every input and output its declared name, in place, after checking that it is that axis.

    Inputs: a dynamic axis must be symbolic. Outputs: the exporter's expression must have the declared
    formula's value at many sizes. Raises ExportError with the tensor, the axis, and both sides.
    """
    bound: dict[str, str] = {}  # the exporter's symbol → the declared axis
    _check_names("input", [v.name for v in model.graph.input], inputs)
    _check_names("output", [v.name for v in model.graph.output], outputs)
    for value in model.graph.input:
        declared = inputs[value.name]
        _check_type(value, declared, "input")
        for i, (axis, want) in enumerate(zip(value.type.tensor_type.shape.dim, declared["shape"], strict=True)):
            where = f"input '{value.name}' axis {i}"
            _check_symbolic(where, axis, want)
            if isinstance(want, str):
                # an existing file may leave an axis unnamed, which ties it to nothing
                known = bound.setdefault(axis.dim_param, want) if axis.dim_param else want
                if known != want:
                    raise ExportError(
                        f"{where} is declared '{want}', but the module ties it to '{known}'",
                        "declare both axes by the same symbol",
                    )
                axis.dim_param = want
    for value in model.graph.output:
        declared = outputs[value.name]
        _check_type(value, declared, "output")
        for i, (axis, want) in enumerate(zip(value.type.tensor_type.shape.dim, declared["shape"], strict=True)):
            where = f"output '{value.name}' axis {i}"
            _check_symbolic(where, axis, want)
            if isinstance(want, str):
                _check_formula(where, axis.dim_param, want, bound, formulas)
                axis.dim_param = want
    # the exporter's own symbols between inputs and outputs mean nothing to a reader; engines infer them again
    del model.graph.value_info[:]


def _check_names(kind: str, got: list[str], declared: Mapping[str, Any]) -> None:
    for name in declared:
        if name not in got:
            raise ExportError(f"the ONNX file has no {kind} '{name}'", nearest(name, got))
    for name in got:
        if name not in declared:
            raise ExportError(
                f"the ONNX file has an {kind} '{name}' that is not declared", f"declared: {choices(declared)}"
            )


def _check_type(value: onnx.ValueInfoProto, declared: Mapping[str, Any], kind: str) -> None:
    tensor = value.type.tensor_type
    dtype = dtype_name(tensor.elem_type)
    if dtype != declared["dtype"]:
        raise ExportError(
            f"{kind} '{value.name}' is {dtype} in the ONNX file, declared {declared['dtype']}",
            "correct the declared dtype, or convert inside the component",
        )
    shape = [d.dim_param or d.dim_value for d in tensor.shape.dim]
    if len(shape) != len(declared["shape"]):
        raise ExportError(
            f"{kind} '{value.name}' is {shape} in the ONNX file, declared {declared['shape']}",
            "correct the declared shape",
        )


def _check_symbolic(where: str, axis: Any, want: str | int) -> None:
    dynamic = bool(axis.dim_param) or not axis.HasField("dim_value")
    if isinstance(want, int) and (dynamic or axis.dim_value != want):
        raise ExportError(
            f"{where} is '{axis.dim_param or 'dynamic'}', declared {want}"
            if dynamic
            else f"{where} is {axis.dim_value}, declared {want}",
            "correct the declared shape",
        )
    if isinstance(want, str) and not dynamic:
        raise ExportError(
            f"{where} is fixed at {axis.dim_value}, declared dynamic ('{want}')",
            "something in forward() turns this size into a constant; or declare the number",
        )


def _check_formula(where: str, got: str, want: str, bound: Mapping[str, str], formulas: Mapping[str, str]) -> None:
    """Compare two expressions by value: the exporter's, in its own symbols, and the declared one."""
    if not got:  # an unnamed axis of an existing file: nothing to compare, verification measures it
        return
    try:
        unknown = symbols(got) - bound.keys()
    except ExprError:
        return  # not arithmetic this tool reads: verification compares real sizes
    if unknown:
        return
    for env in _sizes(sorted({s for axis in bound.values() for s in symbols(axis)})):
        full = _with_formulas(env, formulas)
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


def _with_formulas(env: Mapping[str, int], formulas: Mapping[str, str]) -> dict[str, int]:
    """`env` with derived dims computed where they are not axes of their own."""
    full = dict(env)
    for _ in formulas:  # as many rounds as the longest chain can need
        for name, formula in formulas.items():
            if name not in full and symbols(formula) <= full.keys():
                full[name] = evaluate(formula, full)
    return full


def _sizes(names: list[str]) -> list[dict[str, int]]:
    """Sizes that tell formulas apart: small and large, even and odd, every symbol another value."""
    base = (2, 3, 7, 16, 31, 100, 641, 1280, 3999, 16001)
    return [{n: base[(s + 3 * i) % len(base)] + s for i, n in enumerate(names)} for s in range(len(base))]


def _line(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
