"""Precisions as ONNX → ONNX rewrites: `f(source, target, keep, **kwargs) -> summary`.

`keep` = {op_types: […], nodes: […]} stays float32; node names are shell patterns (`node_conv1d_*`).
"""
