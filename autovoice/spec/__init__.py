"""The frozen specification of a build: what the configuration means, without any configuration container.

Shapes are tuples of whole numbers and arithmetic over dimension names (see `autovoice.dims.expressions`). Every value
that ends in an action key is JSON.
"""

from __future__ import annotations

from autovoice.spec.build import BuildSpec, Group, PipelineSpec
from autovoice.spec.choices import (
    Backend,
    BackendOrder,
    Calibration,
    Export,
    Gate,
    Implicit,
    Keep,
    Precision,
    Quantize,
    Target,
)
from autovoice.spec.component import Checkpoint, Component, OnnxFile
from autovoice.spec.names import (
    AUDIO_METRICS,
    DTYPES,
    ERRORS,
    FAIL,
    OBJECTIVES,
    OPTIONAL_METRICS,
    POINTS,
    QUANTIZABLE,
    REBUILD,
    RUNS_HERE,
    SNR_EQUAL,
    WORKER,
)
from autovoice.spec.tensors import Axis, Dim, Input, Output, Tensor
from autovoice.spec.variants import BASELINE, FALLBACK, PRIMARY, EngineVariant

__all__ = [
    "AUDIO_METRICS",
    "BASELINE",
    "DTYPES",
    "ERRORS",
    "FAIL",
    "FALLBACK",
    "OBJECTIVES",
    "OPTIONAL_METRICS",
    "POINTS",
    "PRIMARY",
    "QUANTIZABLE",
    "REBUILD",
    "RUNS_HERE",
    "SNR_EQUAL",
    "WORKER",
    "Axis",
    "Backend",
    "BackendOrder",
    "BuildSpec",
    "Calibration",
    "Checkpoint",
    "Component",
    "Dim",
    "EngineVariant",
    "Export",
    "Gate",
    "Group",
    "Implicit",
    "Input",
    "Keep",
    "OnnxFile",
    "Output",
    "PipelineSpec",
    "Precision",
    "Quantize",
    "Target",
    "Tensor",
]
