"""This machine: its processor and GPUs, free memory, and locks that give a step the machine or a GPU alone."""
