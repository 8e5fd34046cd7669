"""The kinds of steps: each is a module of `autovoice.steps` of that name."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Kind:
    """`tools` are distributions whose versions a step depends on; each is imported in the worker, never here.

    `alone`: it measures time, so that nothing else may run meanwhile.
    """

    tools: tuple[str, ...] = ()
    alone: bool = False


KINDS = {
    "inputs": Kind(("numpy",)),
    "export": Kind(("torch", "onnx", "onnxscript", "onnxslim", "onnxruntime")),
    "import_onnx": Kind(("onnx", "onnxslim", "onnxruntime")),
    "reference": Kind(("torch", "numpy")),
    "reference_onnx": Kind(("onnxruntime", "numpy")),
    "fuse": Kind(("onnx",)),
    "samples": Kind(("numpy",)),
    "coverage": Kind(("numpy",)),
    "activations": Kind(("onnxruntime", "numpy")),
    "observe": Kind(("onnxruntime", "onnx", "numpy")),
    "ranges": Kind(("numpy",)),
    "ranges_fused": Kind(("numpy",)),
    "ranges_given": Kind(("onnx",)),
    "ranges_calibrator": Kind(("onnx",)),
    "methods": Kind(),
    "lower": Kind(("onnx", "onnxruntime")),
    "passes": Kind(("onnx",)),
    "build": Kind(("onnx",)),
    "race": Kind(("numpy",), alone=True),
    "verify": Kind(("numpy",)),
    "swaps": Kind(("onnxruntime", "numpy")),
    "latency": Kind(("numpy",), alone=True),
    "end_to_end": Kind(("numpy",)),
    "sensitivity": Kind(("onnx", "onnxruntime", "numpy")),
    "search": Kind(("onnx", "onnxruntime", "numpy")),
}
