"""An exported component's answers to its calibration samples: the samples of whoever reads it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from autovoice.calibration.samples import sample_feeds
from autovoice.errors import CalibrationError, first_line
from autovoice.onnx_tools.ort import float_session
from autovoice.spec.ports import by_wire
from autovoice.steps.context import Context
from autovoice.store.npz import write_npz

if TYPE_CHECKING:
    from autovoice.steps.fields import ActivationsFields


def run(context: Context[ActivationsFields]) -> dict[str, Any]:
    """Write one npz of outputs a sample, by wire, computed in float32."""
    outputs = context.fields["outputs"]
    session = float_session(context.needs["export"] / "model.onnx")
    count = 0
    for name, feeds in sample_feeds(context.fields["reads"], context.needs):
        try:
            values = session.run(list(outputs), feeds)
        except Exception as e:  # onnxruntime raises a class of its own per status code, all plain Exceptions
            raise CalibrationError(f"sample {name}: the model cannot run it", first_line(e)) from e
        with open(context.out / name, "wb") as file:
            write_npz(file, by_wire(outputs, dict(zip(outputs, values, strict=True))))
        count += 1
    return {"samples": count}
