"""Sizes: arithmetic over dims, binding of arrays to them, sizes that satisfy several shapes at once."""
