"""The kinds of steps: one module each, with `run(context) -> result` (JSON), run by a worker."""
