"""The exported graph rewritten to the precision asked: ONNX → ONNX."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import onnx

from autovoice.errors import LoweringError
from autovoice.measure.precision import given_types
from autovoice.onnx_tools.lowering.exclude import check_keep
from autovoice.onnx_tools.lowering.fused import in_fused_names
from autovoice.steps.context import Context
from autovoice.store.atomic import RANGES

if TYPE_CHECKING:
    from autovoice.spec.fields import TargetField
    from autovoice.steps.fields import LowerFields


def run(context: Context[LowerFields]) -> dict[str, Any]:
    """Write model.onnx by the lowering function `f(source, target, keep, **kwargs) -> summary`.

    A precision with a policy also hands it `quantize` and `ranges`, a file, or None where the policy names nothing.
    """
    fields = in_fused_names(context.fields, context.needs)
    lowering = fields["lowering"]
    module, _, name = lowering["target"].rpartition(".")
    function = getattr(importlib.import_module(module), name, None)
    if function is None:
        raise LoweringError(f"precision.lowering: {module} has no '{name}'", "`_target_` names a lowering function")
    source, target = context.needs["export"] / "model.onnx", context.out / "model.onnx"
    if any(fields["own_keep"].values()):
        check_keep(onnx.load(source), fields["own_keep"])
    given: dict[str, Any] = {}
    if "quantize" in fields:
        ranges = context.needs.get("ranges")
        given = {"quantize": fields["quantize"], "ranges": ranges and ranges / RANGES}
    _check_call(function, lowering, given)
    result = dict(function(source, target, fields["keep"], **given, **lowering["kwargs"]) or {})
    own = given_types(onnx.load(source))
    if not own:
        return result
    types = " and ".join(sorted(set(own.values())))
    note = f"{len(own)} nodes of the model itself compute in {types}, and stay so"
    return {**result, "own_types": sorted(own), "notes": [*result.get("notes", []), note]}


def _check_call(function: Any, lowering: TargetField, given: Mapping[str, Any]) -> None:
    """Raise LoweringError where a lowering wants other arguments than its YAML and the policy give."""
    try:
        inspect.signature(function).bind(None, None, None, **given, **lowering["kwargs"])
    except TypeError as e:
        policy = "its precision has no `quantize:`" if not given else f"it is given {', '.join(given)}"
        fix = f"{policy}; f(source, target, keep, …, **kwargs of precision.lowering)"
        raise LoweringError(f"precision.lowering: {lowering['target']}: {e}", fix) from e
