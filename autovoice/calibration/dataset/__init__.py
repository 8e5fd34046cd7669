"""A calibration dataset out of recordings: candidates, a selection of them, one file, and what is in it."""
