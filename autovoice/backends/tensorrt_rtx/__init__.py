"""TensorRT-RTX: engines for GPUs that need not be here."""
