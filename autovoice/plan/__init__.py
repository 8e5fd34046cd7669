"""Steps with their keys: what must run, what is reused, and why."""
