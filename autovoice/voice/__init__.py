"""Recordings in, recordings out: reading, the frame clock, pitch, and conversion through a built pipeline."""
