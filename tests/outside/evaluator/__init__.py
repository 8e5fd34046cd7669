"""A backend outside autovoice, written from `autovoice.backends.base` alone: the evaluator that ONNX itself brings."""
