"""The lowered graph → an engine, and the proof of what precision is in it."""

from __future__ import annotations

from typing import Any

from autovoice.backends.base import backend_from_target
from autovoice.errors import PrecisionError
from autovoice.measure.precision import check_delivered, count_nodes
from autovoice.steps.context import Context


def run(context: Context) -> dict[str, Any]:
    """Write engine<suffix>. Raises BuildError, or PrecisionError when it does not hold what was asked."""
    fields = context.fields
    backend = backend_from_target(fields["backend"]["target"], fields["backend"]["options"])
    model, precision = context.needs["lower"] / "model.onnx", fields["precision"]
    check_delivered(model, precision["type"], fields["keep"], precision["scope"])
    engine = context.out / f"engine{backend.suffix}"
    delivered = backend.engine_from_onnx(model, engine, fields)
    # what went in held it; what came out must still
    before, after = count_nodes(model).get(precision["type"], 0), delivered["file"].get(precision["type"], 0)
    if before and not after:
        raise PrecisionError(
            f"asked {precision['type']}, and the engine computes nothing in it", f"it holds {delivered['file']}"
        )
    return {"engine": engine.name, "size": engine.stat().st_size, "delivered": delivered}
