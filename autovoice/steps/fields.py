"""The fields of each kind of step: the rules of a plan write them, the step of that kind reads them.

All of it is JSON and part of a step's key. Types alone, imported under TYPE_CHECKING only, so that no step's key covers
this file. Files, and the artefacts of other steps, are no fields: see `Context`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NotRequired, TypedDict

from autovoice.spec.fields import (
    AboutField,
    BackendField,
    CheckpointField,
    DimField,
    ExampleField,
    ExportField,
    ImplicitField,
    KeepField,
    LoaderField,
    ModuleField,
    PolicyField,
    PrecisionField,
    Profile,
    QuantizeField,
    ScopedPrecisionField,
    TargetField,
)
from autovoice.spec.ports import OutputField, Port, SentPort, TensorField


class DeclaredFields(TypedDict):
    """Inputs and outputs as declared, outputs also in the order of forward; formulas of derived dims among them."""

    inputs: Mapping[str, TensorField]
    outputs: Mapping[str, OutputField]
    output_order: Sequence[str]
    formulas: Mapping[str, str]


class ImportOnnxFields(DeclaredFields):
    """`trace`: the size of every dim to trace or try the graph with."""

    export: ExportField
    trace: Mapping[str, int]


class ExportFields(ImportOnnxFields, ModuleField):
    pass


class ReferenceOnnxFields(DeclaredFields):
    """`reads`: what its producers' references send."""

    reads: Mapping[str, SentPort]


class ReferenceFields(ReferenceOnnxFields, ModuleField):
    pass


class MemberField(TypedDict):
    """A component to be fused with others."""

    name: str
    inputs: Mapping[str, Port]
    outputs: Mapping[str, Port]


class FuseFields(TypedDict):
    members: Sequence[MemberField]
    inputs: Mapping[str, TensorField]
    outputs: Mapping[str, OutputField]


class SamplesFields(TypedDict):
    """`component` "" is the whole pipeline. `symbols` are all dims of the inputs, `formulas` those of derived ones."""

    component: str
    source: TargetField
    inputs: Mapping[str, ExampleField]
    formulas: Mapping[str, str]
    symbols: Sequence[str]
    min_samples: int


class CoverageFields(TypedDict):
    component: str
    inputs: Mapping[str, ExampleField]
    dims: Mapping[str, DimField]


class ActivationsFields(TypedDict):
    """A component run on what others send."""

    reads: Mapping[str, SentPort]
    outputs: Mapping[str, OutputField]


class ObserveFields(TypedDict):
    """`histograms`: by pattern of tensor names, whether its method needs one. `shard`: [which, of how many]."""

    reads: Mapping[str, SentPort]
    histograms: Mapping[str, bool]
    shard: Sequence[int]


class RangesFields(TypedDict):
    """`method`: by pattern of tensor names, the way a range is chosen."""

    method: Mapping[str, str]
    percentile: float


class NoFields(TypedDict):
    """Of kinds that read artefacts and files alone: ranges_fused, ranges_given."""


class RangesCalibratorFields(TypedDict):
    component: str
    calibrator: TargetField
    inputs: Mapping[str, TensorField]


class MethodsFields(TypedDict):
    patterns: Sequence[str]


class LowerFields(TypedDict):
    """`own_keep`: what of `keep` the component asks for itself. `members`: of a fused one, what each keeps."""

    precision: PrecisionField
    lowering: TargetField
    keep: KeepField
    own_keep: KeepField
    quantize: NotRequired[QuantizeField]
    members: NotRequired[Mapping[str, PolicyField]]


class PassesFields(TypedDict):
    passes: Sequence[str]


class BuildFields(TypedDict):
    """`given`: operators by which the file is quantized already. The rest of what may be missing: see BuildRequest."""

    backend: BackendField
    precision: ScopedPrecisionField
    keep: KeepField
    inputs: Mapping[str, TensorField]
    outputs: Mapping[str, OutputField]
    given: NotRequired[Sequence[str]]
    profiles: NotRequired[Sequence[Profile]]
    environment: NotRequired[Mapping[str, Any]]
    quantize: NotRequired[QuantizeField]
    members: NotRequired[Mapping[str, PolicyField]]
    implicit: NotRequired[ImplicitField]
    reads: NotRequired[Mapping[str, SentPort]]
    model: NotRequired[TargetField]
    checkpoint: NotRequired[CheckpointField | None]
    seed: NotRequired[int]
    output_order: NotRequired[Sequence[str]]
    trace: NotRequired[Mapping[str, int]]


class RaceFields(ActivationsFields):
    """`precisions`: of the build and of the one it is timed against; `type`: the first one's compute type."""

    backend: LoaderField
    precisions: Sequence[str]
    type: str
    choose: bool
    machine: str


class GatedFields(TypedDict):
    """`references`: who holds what each output is compared with. `audio`: sample rates of waveforms, by wire."""

    references: Mapping[str, SentPort]
    gates: Mapping[str, float]
    audio: Mapping[str, int]


class VerifyFields(ActivationsFields, GatedFields):
    """`gates_of`, `about_of`: by precision, of an engine chosen among two. `enforce` False: no gate fails a build."""

    backend: LoaderField
    about: AboutField
    enforce: NotRequired[bool]
    gates_of: NotRequired[Mapping[str, Mapping[str, float]]]
    about_of: NotRequired[Mapping[str, AboutField]]


class LinkField(TypedDict):
    """A component in the chain of all: what runs it, and its wires."""

    backend: LoaderField
    inputs: Mapping[str, Port]
    outputs: Mapping[str, OutputField]


class SwapsFields(TypedDict):
    """`references`: who holds each output of the pipeline, by wire. `lowered`: components that are not in float32."""

    components: Mapping[str, LinkField]
    references: Mapping[str, SentPort]
    lowered: Sequence[str]


class LatencyFields(TypedDict):
    components: Mapping[str, LinkField]
    machine: str


class EndToEndFields(GatedFields):
    components: Mapping[str, LinkField]
    about: Mapping[str, AboutField]
    enforce: NotRequired[bool]


class InputsFields(TypedDict):
    tensors: Mapping[str, ExampleField]
    dims: Mapping[str, DimField]
    seed: int


class TrialFields(LowerFields):
    outputs: Mapping[str, OutputField]


class SensitivityFields(TrialFields):
    """`op_types`: of nodes to be tried; `limit`: on how many samples; `pipeline_outputs`: wires to be compared.

    `downstream`: components between the one that is quantized and these outputs, run as for their activations.
    """

    reads: Mapping[str, SentPort]
    op_types: Sequence[str]
    limit: int
    downstream: Mapping[str, ActivationsFields]
    pipeline_outputs: Sequence[str]


class SearchFields(TrialFields, GatedFields):
    """`evaluations`: how many policies are measured at most."""

    reads: Mapping[str, SentPort]
    evaluations: int
