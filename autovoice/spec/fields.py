"""Parts of a specification as they stand in the fields of steps: plain data, which is JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NotRequired, TypedDict

from autovoice.spec.ports import TensorField

#: {input: {"min", "opt", "max": sizes}}
Profile = Mapping[str, Mapping[str, Sequence[int]]]


class ExampleField(TensorField):
    """An input that may be left out, or drawn: its default, and what its example values look like."""

    default: Any
    example: Mapping[str, Any] | None


class TargetField(TypedDict):
    """Something callable by its dotted path, with its keyword arguments."""

    target: str
    kwargs: Mapping[str, Any]


class BackendField(TypedDict):
    """What makes an engine: the backend's class by its dotted path, made with `options`."""

    name: str
    target: str
    options: Mapping[str, Any]


class LoaderField(BackendField):
    """What runs an engine: `session` are options of running alone, `file` is what to load where it is no engine."""

    session: NotRequired[Mapping[str, Any]]
    file: NotRequired[str]


class PrecisionField(TypedDict):
    """A precision by its name in the configuration, and the compute type that it is."""

    name: str
    type: str


class ScopedPrecisionField(PrecisionField):
    """With what must compute in it: `all` that is floating point, or `heavy` nodes alone."""

    scope: str


class KeepField(TypedDict):
    """What stays in float32: types of operators, patterns of node names, all that is computed from these inputs."""

    op_types: Sequence[str]
    nodes: Sequence[str]
    inputs: Sequence[str]


class QuantizeField(TypedDict):
    """Which nodes are quantized, as `autovoice.spec.Quantize` says; `nodes` are exactly these, in place of patterns."""

    op_types: Sequence[str]
    include: Sequence[str]
    exclude: Sequence[str]
    first: bool
    last: bool
    nodes: NotRequired[Sequence[str]]


class PolicyField(TypedDict):
    """What one member of a fused component keeps and quantizes, in the names of its own graph.

    `keep` is the whole of it, `own_keep` what the member itself asks for, beside its precision.
    """

    keep: KeepField
    own_keep: KeepField
    quantize: NotRequired[QuantizeField]


class ImplicitField(TypedDict):
    """How a tool quantizes by itself, as `autovoice.spec.Implicit` says."""

    calibrator: str
    min_share: float | None
    float16: bool
    prefer_int8: bool


class CheckpointField(TypedDict):
    """How weights are read out of a file: nested key, prefix to strip, whether names must match."""

    key: str | None
    prefix: str
    strict: bool


class ModuleField(TypedDict):
    """How a torch module is made: its class, its weights (None: seeded), the seed."""

    model: TargetField
    checkpoint: CheckpointField | None
    seed: int


class TracedModuleField(ModuleField):
    """With the names of its outputs as forward orders them, and the size of every dim to try it at."""

    output_order: Sequence[str]
    trace: Mapping[str, int]


class ExportField(TypedDict):
    """How an ONNX file is made."""

    opset: int
    simplify: bool


class DimField(TypedDict):
    """A dim: its profile, the formula of a derived one, and the expression that a free one's profile follows."""

    min: int
    opt: int
    max: int
    formula: str | None
    multiple: int
    follows: NotRequired[str]


class AboutField(TypedDict):
    """What advice depends on where a gate is missed."""

    type: str
    gate: str
    quantized: bool
    given: bool
    module: bool
    higher: str | None
    members: Sequence[str]
    inputs: Sequence[str]
