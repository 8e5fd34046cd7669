"""TensorRT and TensorRT-RTX: one Python API in several versions. Imports neither."""
