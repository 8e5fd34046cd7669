"""The exported graph rewritten to the precision asked: ONNX → ONNX."""

from __future__ import annotations

import importlib
from typing import Any

import onnx

from autovoice.errors import LoweringError
from autovoice.lowering.exclude import check_keep
from autovoice.steps.context import Context


def run(context: Context) -> dict[str, Any]:
    """Write model.onnx by the lowering function `f(source, target, keep, **kwargs) -> summary`."""
    lowering = context.fields["lowering"]
    module, _, name = lowering["target"].rpartition(".")
    function = getattr(importlib.import_module(module), name, None)
    if function is None:
        raise LoweringError(f"precision.lowering: {module} has no '{name}'", "`_target_` names a lowering function")
    source, target = context.needs["export"] / "model.onnx", context.out / "model.onnx"
    if any(context.fields["own_keep"].values()):
        check_keep(onnx.load(source), context.fields["own_keep"])
    return dict(function(source, target, context.fields["keep"], **lowering["kwargs"]) or {})
