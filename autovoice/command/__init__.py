"""What a task works with: the composed command as specs, graph and plan, and the run of it."""
