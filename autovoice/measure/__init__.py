"""Numbers about what was built."""
