"""A build request with the options of the backend checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autovoice.backends.tensorrt.options import BuildOptions, build_options

if TYPE_CHECKING:
    from autovoice.backends.build import BuildRequest, Samples
    from autovoice.spec.fields import ImplicitField, KeepField, Profile, QuantizeField
    from autovoice.spec.ports import TensorField


@dataclass(frozen=True)
class Request:
    """One engine: the lowered graph, the type it computes in, its profiles, and what it depends on here.

    What `BuildRequest` says of its fields holds here too.
    """

    model: Path
    precision: str
    profiles: tuple[Profile, ...]
    options: BuildOptions
    environment: Mapping[str, Any]
    inputs: Mapping[str, TensorField]
    keep: KeepField
    named: Path
    caches: Path | None = None
    implicit: ImplicitField | None = None
    samples: Samples | None = None
    calibration_cache: Path | None = None
    quantize: QuantizeField | None = None

    @classmethod
    def of(cls, asked: BuildRequest, options: Mapping[str, Any]) -> Request:
        return cls(
            asked.model,
            asked.precision["type"],
            tuple(asked.profiles),
            build_options(options),
            asked.environment,
            asked.inputs,
            asked.keep,
            asked.named,
            asked.caches,
            asked.implicit,
            asked.samples,
            asked.calibration_cache,
            asked.quantize,
        )
