"""The lowered graph → an engine, and the proof of what precision is in it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from typing import Any

from autovoice.backends.base import backend_from_target
from autovoice.calibration.samples import sample_feeds
from autovoice.errors import PrecisionError
from autovoice.measure.precision import check_delivered, check_quantized, count_nodes
from autovoice.onnx_tools.lowering.fused import in_fused_names
from autovoice.steps.context import Context
from autovoice.store.atomic import RECORD


def run(context: Context) -> dict[str, Any]:
    """Write engine<suffix>. Raises BuildError, or PrecisionError when it does not hold what was asked."""
    fields = in_fused_names(context.fields, context.needs)
    backend = backend_from_target(fields["backend"]["target"], fields["backend"]["options"])
    lowered, precision = context.needs["lower"] / "model.onnx", fields["precision"]
    asked, quantized = precision["type"], "quantize" in fields and "implicit" not in fields
    if quantized:
        exported = context.needs["export"] / "model.onnx"
        check_quantized(exported, lowered, asked, fields["quantize"], fields["keep"])
    elif not {"implicit", "given"} & fields.keys() and not fields.get("model"):
        own = json.loads((context.needs["lower"] / RECORD).read_bytes())["result"].get("own_types", ())
        check_delivered(lowered, STORED.get(asked, asked), fields["keep"], precision["scope"], own)
    model = context.needs.get("passes", context.needs["lower"]) / "model.onnx"
    engine = context.out / f"engine{backend.suffix}"
    more: dict[str, Any] = {"caches": context.caches, "files": dict(context.files), "named": lowered}
    if "reads" in fields:
        more["samples"] = partial(sample_feeds, fields["reads"], context.needs)
    delivered = backend.engine_from_onnx(model, engine, {**fields, **more})
    if not {"implicit", "given"} & fields.keys():
        _check_built(asked, count_nodes(lowered), delivered, quantized)
    beside = delivered.pop("beside", [])
    return {"engine": engine.name, "size": engine.stat().st_size, "delivered": delivered, "beside": beside}


#: compute types that an ONNX file has no name for → what its tensors are
STORED = {"tfloat32": "float32"}


def _check_built(asked: str, model: Mapping[str, int], delivered: Mapping[str, Any], quantized: bool) -> None:
    """What went in held the precision; what came out must still, and integers must be what is executed."""
    if model.get(asked) and not delivered["file"].get(asked):
        raise PrecisionError(f"asked {asked}, and the engine computes nothing in it", f"it holds {delivered['file']}")
    executed = delivered.get("executed")
    if quantized and model.get(asked) and executed is not None and not executed.get(asked):
        fact = f"asked {asked}, and none of the engine's {model[asked]} {asked} nodes is executed so"
        raise PrecisionError(fact, f"executed: {executed}; the backend may need another lowering: precision.lowerings")
