"""What an exported component answers to its calibration samples: the samples of whoever reads it."""

from __future__ import annotations

from typing import Any

from autovoice.calibration.samples import sample_feeds
from autovoice.errors import CalibrationError, first_line
from autovoice.onnx_tools.ort import float_session
from autovoice.steps.context import Context
from autovoice.store.npz import write_npz


def run(context: Context) -> dict[str, Any]:
    """Write one npz of outputs a sample, by wire, computed in float32."""
    outputs = context.fields["outputs"]
    session = float_session(context.needs["export"] / "model.onnx")
    count = 0
    for name, feeds in sample_feeds(context.fields["reads"], context.needs):
        try:
            values = session.run(list(outputs), feeds)
        except Exception as e:  # onnxruntime raises a class of its own per status code, all plain Exceptions
            raise CalibrationError(f"sample {name}: the model cannot run it", first_line(e)) from e
        got = dict(zip(outputs, values, strict=True))
        with open(context.out / name, "wb") as file:
            write_npz(file, {outputs[local]["wire"]: value for local, value in got.items()})
        count += 1
    return {"samples": count}
