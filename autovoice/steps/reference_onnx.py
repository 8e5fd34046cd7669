"""What an existing ONNX file answers in float32, unchanged: the reference where there is no module."""

from __future__ import annotations

from typing import Any

import onnxruntime

from autovoice.errors import ExportError, nearest
from autovoice.onnx_io import external_files
from autovoice.steps.context import Context
from autovoice.steps.points import POINTS, feeds_at, save_point
from autovoice.steps.reference import checked


def run(context: Context) -> dict[str, Any]:
    """Write one npz of outputs a point, by wire, computed without any graph optimisation."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    path = str(context.files["onnx"])
    external_files(context.files["onnx"])  # before anything of it is loaded: none may lie outside its folder
    try:
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as e:  # onnxruntime raises a class of its own per status code, all plain Exceptions
        raise ExportError(f"{path}: onnxruntime cannot load it", str(e).splitlines()[0]) from e
    names = context.fields["output_order"]
    got = [o.name for o in session.get_outputs()]
    for name in names:
        if name not in got:
            raise ExportError(f"{path}: has no output '{name}'", nearest(name, got))
    for point in POINTS:
        feeds = feeds_at(point, context.fields["reads"], context.needs)
        try:
            values = session.run(names, feeds)
        except Exception as e:  # the file's own sizes or inputs are not the declared ones
            shapes = ", ".join(f"{n} {list(v.shape)}" for n, v in feeds.items())
            raise ExportError(f"{path}: onnxruntime cannot run it: {str(e).splitlines()[0]}", f"given {shapes}") from e
        outputs = dict(zip(names, values, strict=True))
        save_point(context.out, point, checked(outputs, feeds, context.fields, point))
    return {"from": "the ONNX file in float32"}
