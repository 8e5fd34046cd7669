"""`calibration:` where the ranges of a component's activations come from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from autovoice.config.example import override
from autovoice.config.paths import files_of
from autovoice.config.reader import NAME, Reader
from autovoice.errors import AutovoiceError, nearest
from autovoice.spec import Calibration

if TYPE_CHECKING:
    from autovoice.config.choices import ChoiceReader

LEVELS = ("component", "pipeline")
METHODS = ("minmax", "percentile", "entropy", "mse")


def read_calibration(reader: ChoiceReader, r: Reader) -> Calibration:
    """The node of the group, every file that it means looked up."""
    files, absent = _files(r)
    ranges = r.take("ranges", str, None)
    spec = Calibration(
        r.take("name", str),
        r.take("level", str, "component"),
        reader.optional_target(r, "source"),
        reader.optional_target(r, "calibrator"),
        None if ranges is None else reader.located(r, "ranges", ranges),
        files,
        absent,
        _method(r),
        r.take("percentile", float, 99.99),
        r.take("min_samples", int, 2),
        r.take("shards", int, 1),
    )
    if not NAME.fullmatch(spec.name):
        r.fault("name", f"'{spec.name}' cannot name a step", "use letters, digits and _")
    if spec.level not in LEVELS:
        r.fault("level", f"unknown level '{spec.level}'", "component, or pipeline")
    if not 50 < spec.percentile <= 100:
        r.fault("percentile", f"{spec.percentile} is out of range", "above 50, at most 100, as 99.99")
    for key in ("min_samples", "shards"):
        if getattr(spec, key) < 1:
            r.fault(key, f"must be at least 1, got {getattr(spec, key)}", override(r.path(key), "1"))
    r.done()
    return spec


def _files(r: Reader) -> tuple[tuple[tuple[str, Path], ...], tuple[str, ...]]:
    """Every file that `files:` means, by name, and what is wrong with the patterns that mean none."""
    value = r.raw("files")
    patterns = [value] if isinstance(value, str) else list(r.strings("files"))
    found: dict[str, Path] = {}
    absent = []
    for pattern in patterns:
        try:
            files = files_of(pattern)
        except AutovoiceError as e:  # of interest only to a precision that needs data
            absent.append(e.fact)
            continue
        absent += [] if files else [f"there is no file '{pattern}'"]
        for name, path in files.items():
            if path not in found.values():
                found[name if name not in found else str(path)] = path
    return tuple(sorted(found.items())), tuple(absent)


def _method(r: Reader) -> Mapping[str, str]:
    value = r.raw("method")
    methods = {"default": "minmax"} | (value if isinstance(value, dict) else {"default": value or "minmax"})
    for pattern, method in methods.items():
        if method not in METHODS:
            key = f"method.{pattern}" if isinstance(value, dict) else "method"
            r.fault(key, f"unknown method '{method}'", nearest(str(method), METHODS))
    return {str(p): str(m) for p, m in methods.items()}
