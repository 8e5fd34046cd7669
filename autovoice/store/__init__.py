"""Content-addressed artefacts on disk, and the file operations that keep them whole."""
