"""ONNX files: reading them safely with all that they keep in other files, saving them. Needs onnx, not torch."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import DecodeError

from autovoice.errors import ExportError, first_line
from autovoice.onnx_tools.graph import graphs_of, reads_of, tensors
from autovoice.onnx_tools.guard import guarded

_DTYPES = {
    onnx.TensorProto.FLOAT: "float32",
    onnx.TensorProto.FLOAT16: "float16",
    onnx.TensorProto.BFLOAT16: "bfloat16",
    onnx.TensorProto.INT64: "int64",
    onnx.TensorProto.INT32: "int32",
    onnx.TensorProto.INT16: "int16",
    onnx.TensorProto.INT8: "int8",
    onnx.TensorProto.UINT8: "uint8",
    onnx.TensorProto.UINT16: "uint16",
    onnx.TensorProto.UINT32: "uint32",
    onnx.TensorProto.UINT64: "uint64",
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
    name: str = onnx.TensorProto.DataType.Name(elem_type)
    return _DTYPES.get(elem_type, name.lower())


def read(path: Path) -> onnx.ModelProto:
    """A whole model, with what it keeps in files of its own folder, sparse weights filled. Raises ExportError."""
    model = _proto(path)
    external_files(path)
    try:
        for tensor in tensors(model):
            if tensor.data_location == onnx.TensorProto.EXTERNAL:
                onnx.external_data_helper.load_external_data_for_tensor(tensor, str(path.parent))
                tensor.data_location = onnx.TensorProto.DEFAULT
                del tensor.external_data[:]
    except (OSError, ValueError, onnx.checker.ValidationError) as e:
        raise ExportError(f"{path}: its external data cannot be read", first_line(e)) from e
    for graph in graphs_of(model):
        _fill_sparse(graph)
    return model


def _fill_sparse(graph: onnx.GraphProto) -> None:
    """Store sparse weights whole, in place, as ONNX Runtime has them in memory: few tools read them otherwise."""
    for sparse in graph.sparse_initializer:
        values, indices = (onnx.numpy_helper.to_array(t) for t in (sparse.values, sparse.indices))
        whole = np.zeros(tuple(sparse.dims), values.dtype)
        whole[np.unravel_index(indices, whole.shape) if indices.ndim == 1 else tuple(indices.T)] = values
        graph.initializer.append(onnx.numpy_helper.from_array(whole, sparse.values.name))
    del graph.sparse_initializer[:]


def external_files(path: Path) -> tuple[Path, ...]:
    """The files, inside an ONNX file's own folder only, that hold its weights. Raises ExportError."""
    outside = (t for t in tensors(_proto(path)) if t.data_location == onnx.TensorProto.EXTERNAL)
    names = {e.value for t in outside for e in t.external_data if e.key == "location"}
    return tuple(_check_inside(path, name) for name in sorted(names))


def _proto(path: Path) -> onnx.ModelProto:
    try:
        model = onnx.load(path, load_external_data=False)
    except (DecodeError, ValueError, OSError) as e:
        raise ExportError(f"{path}: not a readable ONNX file", f"{first_line(e)}; it may be truncated") from e
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
        raise ExportError(f"the model is larger than 2 GiB: {first_line(e)}", "split the component in two") from e


def opset_of(model: onnx.ModelProto) -> int:
    return max((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), default=1)


def at_opset(model: onnx.ModelProto, least: int) -> onnx.ModelProto:
    """A copy at opset `least` or newer."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    if opset_of(model) < least:
        fix = f"export it at opset {least} or newer"
        with guarded(f"onnx's converter to opset {least}", fix):
            copy = onnx.version_converter.convert_version(model, least)
            onnx.checker.check_model(copy)
        del copy.graph.value_info[:]  # what the converter inferred on its way
    copy.ir_version = max(copy.ir_version, 9)  # the first with float8
    return copy


def only_declared(model: onnx.ModelProto, inputs: Collection[str]) -> list[str]:
    """Take off, in place, inputs that are weights or that nothing reads, unless they are declared; what was unread.

    Old exporters list every initializer as an input. One that is declared is fed, and its own value of no use.
    """
    graph, read = model.graph, reads_of(model.graph)
    stored = {t.name for t in graph.initializer}
    unread = [v.name for v in graph.input if v.name not in read | stored and v.name not in inputs]
    gone = {*unread, *(n for n in stored if n not in inputs)}
    for value in [v for v in graph.input if v.name in gone]:
        graph.input.remove(value)
    fed = {v.name for v in graph.input}
    for tensor in [t for t in graph.initializer if t.name in fed]:
        graph.initializer.remove(tensor)
    model.ir_version = max(model.ir_version, 4)  # the first in which weights need not be inputs
    return unread


def give_shapes(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    """Let outputs without a shape have an empty one, in place, as onnx's checker demands; the outputs it was given."""
    plain = [v for v in model.graph.output if v.type.HasField("tensor_type")]
    missing = [v for v in plain if not v.type.tensor_type.HasField("shape")]
    for value in missing:
        value.type.tensor_type.shape.SetInParent()
    return missing


def unread_inputs(path: Path) -> list[str]:
    """The inputs of a file that nothing in it reads."""
    graph = _proto(path).graph
    read = reads_of(graph)
    return [v.name for v in graph.input if v.name not in read]
