"""A command as tasks work with it: its specs, graph and plan, and the run of it."""
