"""Working on ONNX files: reading and writing, merging, axes, passes, lowering to a precision."""
