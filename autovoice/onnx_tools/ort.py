"""Float32 graphs in ONNX Runtime on the CPU: what lowered ones are measured against."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnxruntime as ort

from autovoice.spec import WORKER

if TYPE_CHECKING:  # whoever runs engines need not have it
    import onnx

_ERRORS_ONLY = 3
_SILENT = 4

#: a processor without integer dot products (VNNI) sums pairs of 8-bit products in 16 bits, which overflow in silence:
#: there, and only there, this makes ONNX Runtime choose kernels that do not
NO_OVERFLOW = ("session.x64quantprecision", "1")


def float_session(model: Path | onnx.ModelProto) -> ort.InferenceSession:
    """A session on the CPU, quiet, for a file or a model in memory."""
    return _session(model, ort.SessionOptions(), _ERRORS_ONLY)


def plain_session(model: Path | onnx.ModelProto) -> ort.InferenceSession:
    """One that computes the graph as it stands; that it cannot run it is an answer too, and nothing is printed."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return _session(model, options, _SILENT)


def run_briefly(session: ort.InferenceSession, feeds: Mapping[str, Any], seconds: float = 60) -> dict[str, Any]:
    """Outputs by name. Raises what onnxruntime does, and TimeoutError where it takes longer: some loops never end."""
    names, options = [o.name for o in session.get_outputs()], ort.RunOptions()
    options.log_severity_level = _SILENT
    timer = threading.Timer(seconds, setattr, (options, "terminate", True))
    timer.start()
    try:
        return dict(zip(names, session.run(names, dict(feeds), options), strict=True))
    except Exception as e:  # onnxruntime raises a class of its own per status code, all plain Exceptions
        if options.terminate:
            raise TimeoutError(f"no answer within {seconds:g} s") from e
        raise
    finally:
        timer.cancel()


def _session(model: Path | onnx.ModelProto, options: ort.SessionOptions, severity: int) -> ort.InferenceSession:
    options.log_severity_level = severity
    options.add_session_config_entry(*NO_OVERFLOW)
    if WORKER in os.environ:  # steps run side by side: threads that spin while they wait slow the others down
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    content = str(model) if isinstance(model, Path) else model.SerializeToString()
    return ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
