"""PyTorch modules made from a step's record: construction, checkpoints, calling, determinism."""
