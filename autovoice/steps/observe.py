"""One shard of the calibration samples through the exported graph: extrema and histograms of its activations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import onnx

from autovoice.calibration.observe import observe, observed_arrays
from autovoice.calibration.samples import sample_feeds
from autovoice.onnx_tools.lowering.policy import watched_tensors
from autovoice.onnx_tools.ranges import method_of
from autovoice.steps.context import Context
from autovoice.store.npz import write_npz

if TYPE_CHECKING:
    from autovoice.steps.fields import ObserveFields


def run(context: Context[ObserveFields]) -> dict[str, Any]:
    """Write observed.npz, of every tensor that any policy could quantize."""
    fields, model = context.fields, context.needs["export"] / "model.onnx"
    tensors = watched_tensors(onnx.load(model))
    counted = [t for t in tensors if method_of(t, fields["histograms"])]
    index, shards = fields["shard"]
    found = observe(model, tensors, counted, sample_feeds(fields["reads"], context.needs, (index, shards)))
    with open(context.out / "observed.npz", "wb") as file:
        write_npz(file, observed_arrays(found))
    return {"tensors": len(tensors), "samples": found.samples}
