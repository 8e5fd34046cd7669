"""A thin layer over `cuda.bindings.runtime`: checked calls, memory, streams, graphs and arrays on the device.

Nothing here is imported before a session on a GPU is made.
"""
