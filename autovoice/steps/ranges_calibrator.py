"""Ranges by the user's own calibrator: `f(model=path, tensors=[…], …) -> {tensor: (low, high)}`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import onnx

from autovoice.calibration.targets import called, data_files
from autovoice.onnx_tools.lowering.policy import watched_tensors
from autovoice.onnx_tools.ranges import check_complete, ranges_from, write_ranges
from autovoice.steps.context import Context
from autovoice.store.atomic import RANGES
from autovoice.store.hashing import uncached_sha256

if TYPE_CHECKING:
    from autovoice.steps.fields import RangesCalibratorFields


def run(context: Context[RangesCalibratorFields]) -> dict[str, Any]:
    """Write ranges.json. Raises CalibrationError for ranges that are not finite, or do not cover the graph."""
    fields, model = context.fields, context.needs["export"] / "model.onnx"
    tensors = watched_tensors(onnx.load(model))
    given = {
        "model": model,
        "tensors": tensors,
        "component": fields["component"],
        "inputs": fields["inputs"],
        "files": data_files(context.files),
    }
    where = f"calibrator {fields['calibrator']['target']}"
    ranges = ranges_from(called("calibration.calibrator", fields["calibrator"], given), where)
    check_complete(ranges, tensors, where)
    write_ranges(context.out / RANGES, uncached_sha256(model), None, fields["calibrator"]["target"], ranges)
    return {"tensors": len(ranges), "samples": None}
