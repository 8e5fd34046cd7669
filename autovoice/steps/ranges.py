"""Ranges of a component's activations, out of what all shards observed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from autovoice.calibration.observe import Observed, observed_from
from autovoice.calibration.thresholds import threshold
from autovoice.onnx_tools.ranges import matched, method_of, write_ranges
from autovoice.steps.context import Context
from autovoice.store.atomic import RANGES
from autovoice.store.hashing import uncached_sha256
from autovoice.store.npz import read_npz

if TYPE_CHECKING:
    from autovoice.steps.fields import RangesFields


def run(context: Context[RangesFields]) -> dict[str, Any]:
    """Write ranges.json."""
    found = Observed()
    for role, folder in sorted(context.needs.items()):
        if role != "export":
            found.merge(observed_from(read_npz(folder / "observed.npz")))
    methods, percentile = context.fields["method"], context.fields["percentile"]
    ranges = {
        t: threshold(method_of(t, methods), found.low[t], found.high[t], found.histograms.get(t), percentile)
        for t in found.low
    }
    told = {"percentile": percentile, **methods} if "percentile" in methods.values() else dict(methods)
    model = uncached_sha256(context.needs["export"] / "model.onnx")
    write_ranges(context.out / RANGES, model, found.samples, told, ranges)
    return {"tensors": len(ranges), "samples": found.samples, "matched": matched(methods, list(ranges))}
