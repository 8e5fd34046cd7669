"""A small model that has nothing to do with voices: token ids to a signal, two samples a token."""
