"""The lowered graph → an engine, and the proof of what precision is in it."""

from __future__ import annotations

from typing import Any

from autovoice.backends.base import backend_from_target
from autovoice.measure.precision import check_delivered
from autovoice.steps.context import Context


def run(context: Context) -> dict[str, Any]:
    """Write engine<suffix>. Raises BuildError, or PrecisionError when it does not hold what was asked."""
    fields = context.fields
    backend = backend_from_target(fields["backend"]["target"], fields["backend"]["options"])
    model = context.needs["lower"] / "model.onnx"
    check_delivered(model, fields["precision"]["type"], fields["keep"])
    engine = context.out / f"engine{backend.suffix}"
    delivered = backend.engine_from_onnx(model, engine, fields)
    return {"engine": engine.name, "size": engine.stat().st_size, "delivered": delivered}
