"""A component's own PyTorch module as an engine: its file, its session, and the types it really computes in."""
