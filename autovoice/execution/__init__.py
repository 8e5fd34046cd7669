"""Running a plan: the driver, the worker processes, progress, interrupts."""
