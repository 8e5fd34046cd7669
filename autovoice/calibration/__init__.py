"""Calibration data as an artefact: where samples come from, whether they fit, and the ranges they give."""
