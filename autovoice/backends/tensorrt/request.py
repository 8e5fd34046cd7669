"""A build request as plain data, out of a build step's fields."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from autovoice.backends.tensorrt.options import BuildOptions, build_options

Samples = Callable[[], Iterator[tuple[str, dict[str, np.ndarray]]]]
#: {input: {"min", "opt", "max": sizes}}
Profile = Mapping[str, Mapping[str, Sequence[int]]]


@dataclass(frozen=True)
class Request:
    """One engine: the lowered graph, the type it computes in, its profiles, and what it depends on here.

    `implicit` asks the tool to quantize by itself: {calibrator, min_share, float16, prefer_int8}, fed by `samples`, or
    by a calibration cache in its own format, `calibration_cache`; `quantize` is then the policy of what may be, by the
    names of the graph before its passes, `named`.
    """

    model: Path
    precision: str
    profiles: tuple[Profile, ...]
    options: BuildOptions
    environment: Mapping[str, Any]
    inputs: Mapping[str, Mapping[str, Any]]
    caches: Path | None = None
    implicit: Mapping[str, Any] | None = None
    samples: Samples | None = None
    calibration_cache: Path | None = None
    quantize: Mapping[str, Any] = field(default_factory=dict)
    keep: Mapping[str, Any] = field(default_factory=dict)
    named: Path | None = None

    @classmethod
    def of(cls, model: Path, options: Mapping[str, Any], fields: Mapping[str, Any]) -> Request:
        return cls(
            model,
            fields["precision"]["type"],
            tuple(fields["profiles"]),
            build_options(options),
            fields["environment"],
            fields["inputs"],
            fields.get("caches"),
            fields.get("implicit"),
            fields.get("samples"),
            fields.get("files", {}).get("precision.implicit.cache"),
            fields.get("quantize", {}),
            fields.get("keep", {}),
            fields.get("named"),
        )
