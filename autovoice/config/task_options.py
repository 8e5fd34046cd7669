"""Top-level keys that tell a task what to work on. They describe no model: builds that differ in them are one."""

OPTIONS = {
    "build": ("targets", "workers", "keep_going", "timed", "objectives"),
    "convert": (
        *("input", "output", "speaker", "folder", "trust", "seed", "transpose", "f0_min", "f0_max"),
        *("sampling_temperature", "output_sample_rate", "overwrite"),
    ),
    "run": ("feeds", "output", "overwrite", "folder", "trust"),
    "calibration_data": ("input", "output", "overwrite", "samples", "selection", "seed"),
    "benchmark": ("targets", "benchmark", "folder", "trust"),
    "inspect": ("targets",),
    "sensitivity": ("targets",),
    "search": ("targets", "output", "overwrite"),
    "scaffold": ("onnx", "model", "shapes", "sizes", "name", "output", "overwrite"),
    "gc": ("dry_run",),
    "doctor": ("extras",),
}
EVERY = frozenset(name for names in OPTIONS.values() for name in names)
