"""What loading a TensorRT engine imports: neither what builds one nor what the command line needs."""

from __future__ import annotations

import subprocess
import sys

ABSENT = ("onnx", "torch", "hydra", "omegaconf", "onnxruntime", "yaml", "soundfile", "tensorrt", "cuda")
CODE = f"""
import sys
for name in {ABSENT}:
    sys.modules[name] = None
import autovoice
import autovoice.backends.tensorrt.backend, autovoice.backends.tensorrt_rtx.backend
import autovoice.backends.tensorrt.session
print("loaded")
"""


def test_numpy_and_packaging_are_enough_to_import_what_loads_engines() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("loaded\n", "")
