"""An existing ONNX file, checked against its declaration, as one self-contained file."""

from __future__ import annotations

from typing import Any

import onnx

from autovoice.errors import ExportError
from autovoice.onnx_io import external_files, name_axes, name_nodes, read, save, simplified
from autovoice.steps.context import Context


def run(context: Context) -> dict[str, Any]:
    """Write model.onnx: the file's graph and weights, its axes under their declared names."""
    fields, path = context.fields, context.files["onnx"]
    for file in external_files(path):
        if not file.is_file():
            raise ExportError(f"{path}: its weights are missing, {file.name}", "put that file beside it")
        if file not in {f.resolve() for f in context.files.values()}:
            raise ExportError(
                f"{path}: reads its weights from {file.name}, which is not declared",
                f"onnx: {{path: {path.name}, data: [{file.name}]}}, so that a change of it is noticed",
            )
    model = read(path)
    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError as e:
        raise ExportError(f"{path}: not a valid model: {str(e).splitlines()[0]}", "export it again") from e
    name_axes(model, fields["inputs"], fields["outputs"], fields["formulas"])
    if fields["export"]["simplify"]:
        model = simplified(model)
        name_axes(model, fields["inputs"], fields["outputs"], fields["formulas"])
    name_nodes(model)
    save(model, context.out / "model.onnx")
    opset = next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), None)
    return {"nodes": len(model.graph.node), "opset": opset}
