"""What `task=` names: one module each, with `run(invocation) -> exit code`."""
