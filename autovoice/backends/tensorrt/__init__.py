"""What TensorRT and TensorRT-RTX have in common: one Python API in several versions. Imports neither."""
