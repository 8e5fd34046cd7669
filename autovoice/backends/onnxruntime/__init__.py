"""ONNX Runtime: the engine is the lowered ONNX file itself."""
