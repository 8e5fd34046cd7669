"""Build requests to a backend, and its account of the engine that it wrote."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from autovoice.spec.fields import (
        ImplicitField,
        KeepField,
        Profile,
        QuantizeField,
        ScopedPrecisionField,
        TracedModuleField,
    )
    from autovoice.spec.ports import OutputField, TensorField

    #: every calibration sample in turn: its name, and the component's inputs by its own names
    Samples = Callable[[], Iterator[tuple[str, dict[str, np.ndarray]]]]


@dataclass(frozen=True)
class BuildRequest:
    """One engine to build. Most backends need `model` and `engine` alone.

    `model` is the ONNX file, lowered to the precision and rewritten by the passes of the backend's YAML; `named` the
    same before passes, by whose node names `keep` and `quantize` mean nodes. `engine` is the file to write, in a folder
    of its own. `inputs` and `outputs` are declared by the component's own names; `profiles` (of `profiled` backends)
    hold the sizes of inputs, one profile for each combination of buckets. `environment` is what the backend's
    environment function said. `quantize` is the policy of a quantized precision.

    Where the environment has `implicit_int8` and the precision asks for it, `model` is in float32 and the tool itself
    is to quantize as `implicit` says, by its own `calibration_cache` where the user gives one, else on `samples`.

    `module` is the component's module, for backends that run modules (`from_module`), and `files` its weights.
    `caches` is a folder that outlives the build, for what saves time and changes nothing.
    """

    model: Path
    engine: Path
    precision: ScopedPrecisionField
    keep: KeepField
    inputs: Mapping[str, TensorField]
    outputs: Mapping[str, OutputField]
    named: Path
    profiles: Sequence[Profile] = ()
    environment: Mapping[str, Any] = field(default_factory=dict)
    quantize: QuantizeField | None = None
    implicit: ImplicitField | None = None
    samples: Samples | None = None
    calibration_cache: Path | None = None
    module: TracedModuleField | None = None
    files: Mapping[str, Path] = field(default_factory=dict)
    caches: Path | None = None


@dataclass(frozen=True)
class Delivered:
    """What an engine computes in. `file` must be said; what a backend does not know stays None, and is not shown.

    Counts are by compute type ("float32", "float16", "int8", …): `file` of all that computes in floating point or is
    quantized; `heavy` of convolutions and matrix products alone; `executed` of those as this machine really runs them;
    `weights` of stored tensors; `time` is each type's share of the time. `layers` is the number of all layers.

    `unit` is what `file` counts, "nodes" unless said; `told_by` who says so. `missed` layers came out in a higher type
    than asked, of `untold` convolutions and products the type is not known. `quantized_by` "builder": the tool itself
    chose what to quantize, which may be nothing. `more` is JSON that this backend alone has to say.

    `beside` are names of files that the engine needs beside it; each begins with the engine's own name.
    """

    file: Mapping[str, int]
    heavy: Mapping[str, int] | None = None
    executed: Mapping[str, int] | None = None
    weights: Mapping[str, int] | None = None
    time: Mapping[str, float] | None = None
    layers: int | None = None
    unit: str | None = None
    told_by: str | None = None
    missed: int | None = None
    untold: int | None = None
    quantized_by: str | None = None
    more: Mapping[str, Any] = field(default_factory=dict)
    beside: Sequence[str] = ()

    def as_json(self) -> dict[str, Any]:
        """What stands under `delivered` in records and manifests: all that was said, but for the names of files."""
        own = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("more", "beside")}
        return {name: value for name, value in own.items() if value is not None} | dict(self.more)
