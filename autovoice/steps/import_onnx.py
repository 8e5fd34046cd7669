"""An existing ONNX file, checked against its declaration, as one self-contained file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import onnx

from autovoice.errors import ExportError, first_line
from autovoice.onnx_tools.axes import name_axes
from autovoice.onnx_tools.graph import name_nodes
from autovoice.onnx_tools.io import external_files, give_shapes, only_declared, opset_of, read, save
from autovoice.onnx_tools.probe import Probe
from autovoice.onnx_tools.simplify import simplified
from autovoice.steps.context import Context

if TYPE_CHECKING:
    from autovoice.steps.fields import ImportOnnxFields


def run(context: Context[ImportOnnxFields]) -> dict[str, Any]:
    """Write model.onnx: the file's graph and weights, its axes under their declared names."""
    fields, path = context.fields, context.files["onnx"]
    _check_files(context)
    model = read(path)
    unread = only_declared(model, fields["inputs"])
    shapeless = give_shapes(model)
    try:
        onnx.checker.check_model(model)
    except Exception as e:  # the checker has classes of its own, and passes on what its parts raise
        raise ExportError(f"{path}: not a valid model: {first_line(e)}", "export it again") from e
    for value in shapeless:
        value.type.tensor_type.ClearField("shape")
    probe = Probe(fields["inputs"], fields["outputs"], fields["trace"], fields["formulas"])
    name_axes(model, fields["inputs"], fields["outputs"], fields["formulas"], probe.runs)
    model, notes = simplified(model, probe, fields["export"]["simplify"])
    notes += [f"nothing reads input '{name}' of {path.name}: it is left out" for name in unread]
    name_nodes(model)
    save(model, context.out / "model.onnx")
    return {"nodes": len(model.graph.node), "opset": opset_of(model), "notes": notes}


def _check_files(context: Context[ImportOnnxFields]) -> None:
    path = context.files["onnx"]
    for file in external_files(path):
        if not file.is_file():
            raise ExportError(f"{path}: its weights are missing, {file.name}", "put that file beside it")
        if file not in {f.resolve() for f in context.files.values()}:
            raise ExportError(
                f"{path}: reads its weights from {file.name}, which is not declared",
                f"onnx: {{path: {path.name}, data: [{file.name}]}}, so that a change of it is noticed",
            )
