"""Ranges out of a file of the user's own, which is checked against the graph and only ever read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import onnx

from autovoice.errors import CalibrationError
from autovoice.onnx_tools.lowering.policy import watched_tensors
from autovoice.onnx_tools.ranges import check_complete, model_of, read_ranges, write_ranges
from autovoice.steps.context import Context
from autovoice.store.atomic import RANGES
from autovoice.store.hashing import uncached_sha256

if TYPE_CHECKING:
    from autovoice.steps.fields import NoFields


def run(context: Context[NoFields]) -> dict[str, Any]:
    """Write ranges.json. Raises CalibrationError for ranges of another model, or that do not cover this one."""
    path, export = context.files["calibration.ranges"], context.needs["export"] / "model.onnx"
    ranges, model, current = read_ranges(path), model_of(path), uncached_sha256(export)
    check_complete(ranges, watched_tensors(onnx.load(export)), str(path))
    if model not in (None, current):
        raise CalibrationError(
            f"{path}: was made for another graph ({str(model)[:12]}…, this one is {current[:12]}…)",
            'calibrate again, or, if its ranges are right all the same, remove the line "model" from it',
        )
    write_ranges(context.out / RANGES, current, None, "given", ranges)
    return {"tensors": len(ranges), "samples": None}
