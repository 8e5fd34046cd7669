"""The tasks, by name: one module each, with `run(invocation) -> exit code`."""
