"""The lowered graph → an engine, and the proof of what precision is in it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from autovoice.backends.base import backend_from_target
from autovoice.errors import PrecisionError
from autovoice.measure.precision import check_delivered, check_quantized, count_nodes
from autovoice.steps.context import Context


def run(context: Context) -> dict[str, Any]:
    """Write engine<suffix>. Raises BuildError, or PrecisionError when it does not hold what was asked."""
    fields = context.fields
    backend = backend_from_target(fields["backend"]["target"], fields["backend"]["options"])
    model, precision = context.needs["lower"] / "model.onnx", fields["precision"]
    if "export" in context.needs:
        exported = context.needs["export"] / "model.onnx"
        check_quantized(exported, model, precision["type"], fields["quantize"], fields["keep"])
    else:
        check_delivered(model, precision["type"], fields["keep"], precision["scope"])
    engine = context.out / f"engine{backend.suffix}"
    delivered = backend.engine_from_onnx(model, engine, fields)
    _check_built(precision["type"], count_nodes(model), delivered, "quantize" in fields)
    return {"engine": engine.name, "size": engine.stat().st_size, "delivered": delivered}


def _check_built(asked: str, model: Mapping[str, int], delivered: Mapping[str, Any], quantized: bool) -> None:
    """What went in held the precision; what came out must still, and integers must be what is executed."""
    if model.get(asked) and not delivered["file"].get(asked):
        raise PrecisionError(f"asked {asked}, and the engine computes nothing in it", f"it holds {delivered['file']}")
    executed = delivered.get("executed")
    if quantized and model.get(asked) and executed is not None and not executed.get(asked):
        fact = f"asked {asked}, and none of the engine's {model[asked]} {asked} nodes is executed so"
        raise PrecisionError(fact, f"executed: {executed}; the backend may need another lowering: precision.lowerings")
