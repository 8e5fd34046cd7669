"""The samples of a calibration source, checked and written down."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from autovoice.calibration.oddities import odd_samples
from autovoice.calibration.samples import SampleChecker, write_samples
from autovoice.calibration.targets import called, data_files
from autovoice.steps.context import Context

if TYPE_CHECKING:
    from autovoice.steps.fields import SamplesFields


def run(context: Context[SamplesFields]) -> dict[str, Any]:
    """Write one npz a sample and samples.json."""
    fields = context.fields
    given = {"component": fields["component"], "inputs": fields["inputs"], "files": data_files(context.files)}
    source = called("calibration.source", fields["source"], given)
    samples = iter(source.get_next, None) if hasattr(source, "get_next") else source  # as ONNX Runtime's readers
    whose = fields["component"] or "the pipeline"
    checker = SampleChecker(fields["inputs"], fields["formulas"], fields["symbols"], whose, not fields["component"])
    entries = write_samples(context.out, samples, checker, fields["min_samples"])
    return {"samples": len(entries), "notes": odd_samples(entries, fields["inputs"])}
