"""What an existing ONNX file answers in float32, unchanged: the reference where there is no module."""

from __future__ import annotations

from typing import Any

import onnxruntime

from autovoice.steps.context import Context
from autovoice.steps.points import POINTS, feeds_at, save_point
from autovoice.steps.reference import checked


def run(context: Context) -> dict[str, Any]:
    """Write one npz of outputs a point, by wire, computed without any graph optimisation."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    path = str(context.needs["export"] / "model.onnx")
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = list(context.fields["outputs"])
    for point in POINTS:
        feeds = feeds_at(point, context.fields["reads"], context.needs)
        outputs = dict(zip(names, session.run(names, feeds), strict=True))
        save_point(context.out, point, checked(outputs, context.fields, point))
    return {"from": "the ONNX file in float32"}
