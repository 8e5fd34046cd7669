"""The lowered graph rewritten by the passes that its backend's YAML names: ONNX → ONNX, same values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import onnx

from autovoice.onnx_tools.io import save
from autovoice.onnx_tools.passes import apply
from autovoice.steps.context import Context

if TYPE_CHECKING:
    from autovoice.steps.fields import PassesFields


def run(context: Context[PassesFields]) -> dict[str, Any]:
    """Write model.onnx; {"rewrites": {pass: how many}, "nodes": [before, after]}."""
    model = onnx.load(context.needs["lower"] / "model.onnx")
    before = len(model.graph.node)
    made = apply(model, context.fields["passes"])
    save(model, context.out / "model.onnx")
    return {"rewrites": made, "nodes": [before, len(model.graph.node)]}
