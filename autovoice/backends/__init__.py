"""Backends: one module each, a class with at most three methods (see `base`)."""
