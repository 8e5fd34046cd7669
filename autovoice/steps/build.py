"""The lowered graph → an engine, and the proof of what precision is in it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autovoice.backends.build import BuildRequest
from autovoice.backends.registry import backend_from_target
from autovoice.calibration.samples import sample_feeds
from autovoice.errors import PrecisionError
from autovoice.measure.precision import check_delivered, check_quantized, count_nodes
from autovoice.onnx_tools.lowering.fused import in_fused_names
from autovoice.steps.context import Context
from autovoice.store.atomic import RECORD

if TYPE_CHECKING:
    from autovoice.backends.build import Delivered
    from autovoice.spec.fields import TracedModuleField
    from autovoice.steps.fields import BuildFields


def run(context: Context[BuildFields]) -> dict[str, Any]:
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
    request = request_from(fields, model, lowered, engine)
    cache = context.files.get("precision.implicit.cache")
    request = replace(request, files=context.files, caches=context.caches, calibration_cache=cache)
    if "reads" in fields:
        request = replace(request, samples=partial(sample_feeds, fields["reads"], context.needs))
    delivered = backend.engine_from_onnx(request)
    if not {"implicit", "given"} & fields.keys():
        _check_built(asked, count_nodes(lowered), delivered, quantized)
    size, beside = engine.stat().st_size, list(delivered.beside)
    return {"engine": engine.name, "size": size, "delivered": delivered.as_json(), "beside": beside}


def request_from(fields: BuildFields, model: Path, named: Path, engine: Path) -> BuildRequest:
    """What a backend is asked for: `model`, whose nodes are called as in `named`, as `engine`."""
    return BuildRequest(
        model=model,
        engine=engine,
        precision=fields["precision"],
        keep=fields["keep"],
        inputs=fields["inputs"],
        outputs=fields["outputs"],
        named=named,
        profiles=fields.get("profiles", ()),
        environment=fields.get("environment", {}),
        quantize=fields.get("quantize"),
        implicit=fields.get("implicit"),
        module=_module(fields),
    )


def _module(fields: BuildFields) -> TracedModuleField | None:
    """Of backends that run modules, the component's."""
    if "model" not in fields:
        return None
    return {
        "model": fields["model"],
        "checkpoint": fields["checkpoint"],
        "seed": fields["seed"],
        "output_order": fields["output_order"],
        "trace": fields["trace"],
    }


#: compute types that an ONNX file has no name for → what its tensors are
STORED = {"tfloat32": "float32"}


def _check_built(asked: str, model: Mapping[str, int], delivered: Delivered, quantized: bool) -> None:
    """What went in held the precision; what came out must still, and integers must be what is executed."""
    holds, executed = dict(delivered.file), delivered.executed
    if model.get(asked) and not holds.get(asked):
        raise PrecisionError(f"asked {asked}, and the engine computes nothing in it", f"it holds {holds}")
    if quantized and model.get(asked) and executed is not None and not executed.get(asked):
        fact = f"asked {asked}, and none of the engine's {model[asked]} {asked} nodes is executed so"
        fix = f"executed: {dict(executed)}; the backend may need another lowering: precision.lowerings"
        raise PrecisionError(fact, fix)
