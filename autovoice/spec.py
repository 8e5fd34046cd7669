"""The frozen specification of a build: what the configuration means, without any configuration container.

Shapes are tuples of whole numbers and arithmetic over dimension names (see `autovoice.expr`). Every value
that ends in an action key is JSON.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

Axis = str | int
POINTS = ("min", "opt", "max")

#: the operators that can be quantized at all
QUANTIZABLE = ("Conv", "ConvTranspose", "MatMul", "Gemm")

#: set in worker processes that run nothing but steps, whose file descriptors may therefore be redirected
WORKER = "AUTOVOICE_WORKER"

#: distances between waveforms, which mean something only where trained weights are loaded
AUDIO_METRICS = ("lsd_db", "mcd_db", "log_mel_l1", "mr_stft")
#: metrics where more is worse; of all others, less is worse
ERRORS = ("max_abs", "relative_l2", *AUDIO_METRICS)
#: gates that name only the precisions they are meant for; every other metric of a gate must know all in use
OPTIONAL_METRICS = ("pooled_cosine", "relative_l2", *AUDIO_METRICS)

#: the SNR reported for two equal tensors, which have no error: JSON has no infinity
SNR_EQUAL = 200.0

#: dtype names of the configuration; numpy's own, without 64-bit floats which no engine here wants
DTYPES = ("float32", "float16", "int64", "int32", "int16", "int8", "uint8", "bool")


#: in what a backend's environment says: whether this machine can run what it builds; no part of what an engine is
RUNS_HERE = "runs_here"


@dataclass(frozen=True)
class Dim:
    """A named dimension: free (min, opt, max are its profile) or derived (`formula` over other dims).

    `profile` is the expression that min, opt and max of a free dim were computed from, if they were.
    """

    name: str
    min: int
    opt: int
    max: int
    formula: str | None = None
    profile: str | None = None
    multiple: int = 1
    trace: int = 0
    buckets: tuple[int, ...] = ()


@dataclass(frozen=True)
class Tensor:
    """A wire of the graph, declared once by whoever produces it.

    `audio` is the sample rate in Hz of a waveform along the last axis, None for anything else.
    """

    name: str
    dtype: str
    shape: tuple[Axis, ...]
    default: Any = None
    example: Mapping[str, Any] | None = None
    audio: int | None = None


@dataclass(frozen=True)
class Input:
    """A component's input: its own name, the wire it reads, and what it insists on, if anything."""

    local: str
    wire: str
    dtype: str | None = None
    shape: tuple[Axis, ...] | None = None


@dataclass(frozen=True)
class Output:
    """A component's output: its own name and the wire it declares."""

    local: str
    tensor: Tensor


@dataclass(frozen=True)
class Target:
    """Something callable by its dotted path, with the keyword arguments of the configuration."""

    path: str
    kwargs: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Checkpoint:
    """Where weights come from: file, nested key, name prefix to strip, and whether names must match."""

    path: Path
    key: str | None = None
    prefix: str = ""
    strict: bool = True


@dataclass(frozen=True)
class OnnxFile:
    """An existing ONNX file and the files beside it that hold its weights, if it does not itself."""

    path: Path
    data: tuple[Path, ...] = ()


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
    is matched against a node's name and the names of its weights.
    """

    op_types: tuple[str, ...] = ()
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    first: bool = True
    last: bool = True


@dataclass(frozen=True)
class Implicit:
    """Implicit quantization: the tool's own calibrator, entropy2 or minmax, fed with the component's samples.

    `cache`: a calibration cache in the tool's format, used as it is in place of samples. `min_share`: the least share
    of heavy layers that must come out quantized; None only reports. `float16`: layers may fall back to float16.
    """

    calibrator: str = "entropy2"
    cache: Path | None = None
    min_share: float | None = None
    float16: bool = True


@dataclass(frozen=True)
class Precision:
    """A precision: the compute type asked for and the ONNX → ONNX lowering that asks for it.

    `scope` heavy: the lowering rewrites convolutions and matrix products alone, so a graph that has none stays as
    it is, and that is no failure; all: every graph with floating point must compute in the type somewhere.
    `gates` is the name under which gates know it, its own unless given;
    `quantize` is the policy of a precision whose scales come from calibration, None for all others; `lowerings`
    replace `lowering` on the backends they name; `higher` is what a component becomes that the policy leaves out whole,
    and what a quantized build is compared with. `implicit` says how a tool that can choose for itself which layers
    are quantized does so, on a backend whose environment has that; elsewhere the lowering is explicit.
    """

    name: str
    type: str
    lowering: Target
    keep: Keep = Keep()
    scope: str = "all"
    quantize: Quantize | None = None
    lowerings: Mapping[str, Target] = field(default_factory=dict)
    higher: Precision | None = None
    implicit: Implicit | None = None
    gates: str = ""

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

    def with_options(self, own: Mapping[str, Mapping[str, Any]]) -> Backend:
        """Itself with those of a component, by the backend's name, over its own."""
        return replace(self, options={**self.options, **own.get(self.name, {})})


@dataclass(frozen=True)
class Gate:
    """Thresholds by metric, then by precision name, for components and for the whole pipeline."""

    component: Mapping[str, Mapping[str, float]]
    end_to_end: Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class Export:
    """How an ONNX file is made: opset, and whether onnxslim simplifies it."""

    opset: int = 18
    simplify: bool = True


#: policies for an engine that does not fit the machine that loads it; any other names a backend to fall back to
FAIL, REBUILD = "fail", "rebuild"
#: what a fallback is built in: the graph as it was exported
_AS_EXPORTED = Precision("fp32", "float32", Target("autovoice.lowering.floating.keep_float32"))


@dataclass(frozen=True)
class Component:
    """One engine: a module, an ONNX file, or `members` merged into one; its wires, and the choices made for it.

    `on_mismatch` says what happens where it is loaded and does not fit: fail, rebuild, or the name of `fallback`.
    `options` are its own, by backend; `backend` and `fallback` have them already.
    """

    name: str
    model: Target | None
    onnx: OnnxFile | None
    checkpoint: Checkpoint | None
    inputs: tuple[Input, ...]
    outputs: tuple[Output, ...]
    precision: Precision
    backend: Backend
    gate: Gate
    calibration: Calibration = Calibration("none")
    quantize: Quantize | None = None
    only_if_faster: bool = False
    on_mismatch: str = FAIL
    fallback: Backend | None = None
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    keep: Keep = Keep()
    export: Export = Export()
    dims: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    seed: int = 0
    members: tuple[Component, ...] = ()

    @property
    def parts(self) -> tuple[Component, ...]:
        """What is exported and referenced one by one: its members in order, or itself."""
        return self.members or (self,)

    @property
    def place(self) -> str:
        """Where it stands in the configuration."""
        return f"fuse.{self.name}" if self.members else f"component.{self.name}"

    @property
    def lowering(self) -> Target:
        """The precision's lowering for this component's backend."""
        return self.precision.lowerings.get(self.backend.name, self.precision.lowering)

    @property
    def settled(self) -> Component:
        """Itself; or, where the policy of a quantized precision leaves out all of it, in the `higher` one."""
        if self.quantize is None or self.quantize.op_types or self.precision.higher is None:
            return self
        return replace(self, precision=self.precision.higher, quantize=None)

    @property
    def stand_in(self) -> Component | None:
        """The component in float32 on its fallback, built beside it; None without one, or where it is on it already."""
        if self.fallback is None or self.fallback.name == self.backend.name:
            return None
        plain = replace(self, precision=_AS_EXPORTED, quantize=None, only_if_faster=False)
        return replace(plain, backend=self.fallback, fallback=None)

    @property
    def quantized(self) -> bool:
        """True where the policy quantizes anything, so that ranges are needed."""
        return self.quantize is not None and bool(self.quantize.op_types)

    @property
    def raced(self) -> bool:
        """True where the build is timed against one of a higher precision."""
        return self.quantized and self.precision.higher is not None


@dataclass(frozen=True)
class PipelineSpec:
    """The graph's edge: external inputs, the outputs wanted (none: all that nobody reads), free metadata."""

    name: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[str, ...] = ()
    contract: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class BuildSpec:
    """Everything a build needs to know; `notes` say what was chosen for the user."""

    pipeline: PipelineSpec
    dims: Mapping[str, Dim]
    components: tuple[Component, ...]
    targets: tuple[str, ...] = ()
    timed: bool = False
    notes: tuple[str, ...] = ()

    @property
    def parts(self) -> tuple[Component, ...]:
        """The components with the members of those that are fused in their place."""
        return tuple(p for c in self.components for p in c.parts)

    @property
    def unfused(self) -> BuildSpec:
        """The same pipeline with one engine a member."""
        return replace(self, components=self.parts)
