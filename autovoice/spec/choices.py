"""The choices of a component, each from a group of the configuration: precision, backend, calibration, gate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Target:
    """Something callable by its dotted path, with the keyword arguments of the configuration."""

    path: str
    kwargs: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Keep:
    """What stays in float32 under a lower precision.

    Operator types; node names (shell patterns); and all that is computed from an input until it becomes an
    integer or a bool, as an index from a position or a pitch does.
    """

    op_types: tuple[str, ...] = ()
    nodes: tuple[str, ...] = ()
    inputs: tuple[str, ...] = ()

    def __or__(self, other: Keep) -> Keep:
        names = ("op_types", "nodes", "inputs")
        return Keep(*(tuple(sorted({*getattr(self, n), *getattr(other, n)})) for n in names))


@dataclass(frozen=True)
class Quantize:
    """Which nodes of a graph are quantized.

    Those of `op_types`; of them, where `include` is given, only what its patterns match; never what `exclude`
    matches, nor the first or the last quantizable node of the graph where these are False. A pattern (shell style)
    is matched against a node's name and the names of its weights. `only_on` are the backends of those excluded patterns
    that count on some alone.
    """

    op_types: tuple[str, ...] = ()
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    first: bool = True
    last: bool = True
    only_on: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def on(self, backend: str) -> Quantize:
        """The policy there: without what it excludes elsewhere."""
        kept = tuple(p for p in self.exclude if backend in self.only_on.get(p, (backend,)))
        return replace(self, exclude=kept, only_on={})


@dataclass(frozen=True)
class Implicit:
    """Implicit quantization: the tool's own calibrator, entropy2 or minmax, fed with the component's samples.

    `cache`: a calibration cache in the tool's format, used as it is in place of samples, which stands in the
    configuration at `cache_place`. `min_share`: the least share
    of heavy layers that must come out quantized; None only reports. `float16`: layers may fall back to float16.
    `prefer_int8`: convolutions that the policy chooses are quantized where the tool can, not only where that is faster.
    """

    calibrator: str = "entropy2"
    cache: Path | None = None
    min_share: float | None = None
    float16: bool = True
    prefer_int8: bool = True
    cache_place: str = "precision.implicit.cache"


@dataclass(frozen=True)
class Precision:
    """A precision: the compute type asked for and the ONNX → ONNX lowering that asks for it.

    `scope` heavy: the lowering rewrites convolutions and matrix products alone, so a graph that has none stays as
    it is, and that is no failure; all: every graph with floating point must compute in the type somewhere.
    `gates` is the name under which gates know it, its own unless given;
    `quantize` is the policy of a precision whose scales come from calibration, None for all others; `lowerings`
    replace `lowering` on the backends they name; `highers` are what a component becomes that the policy leaves out
    whole, and what a quantized build is compared with, by backend and as `default`. `implicit` says how a tool that can
    choose for itself which layers are quantized does so, on a backend whose environment has that; elsewhere the
    lowering is explicit.
    """

    name: str
    type: str
    lowering: Target
    keep: Keep = Keep()
    scope: str = "all"
    quantize: Quantize | None = None
    lowerings: Mapping[str, Target] = field(default_factory=dict)
    highers: Mapping[str, Precision | None] = field(default_factory=dict)
    implicit: Implicit | None = None
    gates: str = ""

    def higher_on(self, backend: str) -> Precision | None:
        """Of `highers` the one that counts there."""
        return self.highers.get(backend, self.highers.get("default"))

    @property
    def judged_as(self) -> str:
        """The name that gates know it by."""
        return self.gates or self.name


@dataclass(frozen=True)
class Calibration:
    """Where the ranges of a component's activations come from: one of `source`, `calibrator` and `ranges`.

    `source` yields samples: of the component's own inputs, or, at level pipeline, of the pipeline's inputs, which
    then travel through everything upstream of the component. `calibrator` is the user's own code, which returns
    ranges; `ranges` a file of them, or a folder with one file a component. `files` are data by name, their content
    part of the key; `absent` says what of them is not there. `method` gives, by pattern of tensor names, the way a
    range is chosen; `shards` is how many steps share the samples.
    """

    name: str
    level: str = "component"
    source: Target | None = None
    calibrator: Target | None = None
    ranges: Path | None = None
    files: tuple[tuple[str, Path], ...] = ()
    absent: tuple[str, ...] = ()
    method: Mapping[str, str] = field(default_factory=lambda: {"default": "minmax"})
    percentile: float = 99.99
    min_samples: int = 2
    shards: int = 1


@dataclass(frozen=True)
class Backend:
    """A backend: its class, the compute types it can run, and options passed on unchanged.

    `options` make the engine, `session` only how it is run. `environment` is a function of a backend and a compute
    type that gives what an engine depends on here (versions, GPU), or refuses; `passes` are rewrites of the lowered
    graph; `profiled` engines hold min, opt and max of their inputs; `from_module` engines are made from the module.
    `gated_by` runs the graphs that its engines are made from, for the gates, where the engines cannot run here.
    `after_crash` are options to build with, one after another, where its native code has crashed.
    `tensors` are the dtypes that inputs and outputs may have; none named: any.
    `needs` are distributions that it does not go without, each with other names that it is installed under;
    `describe` is a function of a backend that says in words what it runs on here.
    """

    name: str
    target: str
    types: tuple[str, ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    session: Mapping[str, Any] = field(default_factory=dict)
    environment: str | None = None
    passes: tuple[str, ...] = ()
    profiled: bool = False
    from_module: bool = False
    gated_by: Backend | None = None
    after_crash: tuple[Mapping[str, Any], ...] = ()
    tensors: tuple[str, ...] = ()
    needs: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    describe: str | None = None

    def takes(self, dtype: str) -> bool:
        """Whether an input or output of its engines may be of this dtype."""
        return not self.tensors or dtype in self.tensors

    def with_options(self, own: Mapping[str, Mapping[str, Any]]) -> Backend:
        """Itself with those of a component, by the backend's name, over its own."""
        gated_by = None if self.gated_by is None else self.gated_by.with_options(own)
        return replace(self, options={**self.options, **own.get(self.name, {})}, gated_by=gated_by)


@dataclass(frozen=True)
class BackendOrder:
    """Backends to choose among, the best first; `name` is the group's option that holds them."""

    name: str
    backends: tuple[Backend, ...]


@dataclass(frozen=True)
class Gate:
    """Thresholds by metric, then by precision name, for components and for the whole pipeline.

    Where they are not enforced, what misses one is published and marked.
    """

    component: Mapping[str, Mapping[str, float]]
    end_to_end: Mapping[str, Mapping[str, float]]
    enforced: bool = True


@dataclass(frozen=True)
class Export:
    """How an ONNX file is made: opset, and whether onnxslim simplifies it."""

    opset: int = 18
    simplify: bool = True
