"""Float32 graphs in ONNX Runtime on the CPU: what lowered ones are measured against."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import onnxruntime as ort

from autovoice.spec import WORKER

if TYPE_CHECKING:  # whoever runs engines need not have it
    import onnx

_ERRORS_ONLY = 3

#: a processor without integer dot products (VNNI) sums pairs of 8-bit products in 16 bits, which overflow in silence:
#: there, and only there, this makes ONNX Runtime choose kernels that do not
NO_OVERFLOW = ("session.x64quantprecision", "1")


def float_session(model: Path | onnx.ModelProto) -> ort.InferenceSession:
    """A session on the CPU, quiet, for a file or a model in memory."""
    options = ort.SessionOptions()
    options.log_severity_level = _ERRORS_ONLY
    options.add_session_config_entry(*NO_OVERFLOW)
    if WORKER in os.environ:  # steps run side by side: threads that spin while they wait slow the others down
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    content = str(model) if isinstance(model, Path) else model.SerializeToString()
    return ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
