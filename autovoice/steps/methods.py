"""A check that every pattern of `calibration.method` matches a tensor of some component that shares the calibration."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from autovoice.errors import CalibrationError, nearest
from autovoice.onnx_tools.ranges import read_ranges
from autovoice.steps.context import Context
from autovoice.store.atomic import RANGES, RECORD

if TYPE_CHECKING:
    from autovoice.steps.fields import MethodsFields


def run(context: Context[MethodsFields]) -> dict[str, Any]:
    """Raise CalibrationError for a pattern that matches nothing: it would be a silent no-op."""
    matched: set[str] = set()
    tensors: set[str] = set()
    for folder in context.needs.values():
        matched |= set(json.loads((folder / RECORD).read_bytes())["result"]["matched"])
        tensors |= read_ranges(folder / RANGES).keys()
    for pattern in context.fields["patterns"]:
        if pattern not in matched:
            fact = f"calibration.method: '{pattern}' matches no tensor"
            raise CalibrationError(fact, nearest(pattern, tensors)[:300])
    return {"patterns": len(context.fields["patterns"])}
