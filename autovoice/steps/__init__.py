"""What a worker runs: one module a kind of step, each with `run(context) -> result` (JSON)."""
