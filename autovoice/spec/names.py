"""Names that several parts agree on: points, types, metrics, policies, variables of the environment."""

from __future__ import annotations

POINTS = ("min", "opt", "max")

#: dtype names of the configuration, numpy's own; which of them a backend takes stands in its YAML
DTYPES = (
    *("float32", "float16", "float64", "int64", "int32", "int16", "int8"),
    *("uint64", "uint32", "uint16", "uint8", "bool"),
)

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

#: what a sweep may optimise, each with the direction that is better
OBJECTIVES = {"snr_db": "maximize", "ms": "minimize", "megabytes": "minimize"}

#: the SNR reported for two equal tensors, which have no error: JSON has no infinity
SNR_EQUAL = 200.0

#: in what a backend's environment says: whether this machine can run what it builds; no part of what an engine is
RUNS_HERE = "runs_here"

#: policies for an engine that does not fit the machine that loads it; any other names a backend to fall back to
FAIL, REBUILD = "fail", "rebuild"

#: every pass over a graph by its name in a configuration, in an order that suits them all
PASSES = {
    "fold_channel_flips": "autovoice.onnx_tools.passes.flips.fold_channel_flips",
    "cancel_concats": "autovoice.onnx_tools.passes.splits.cancel_concats",
    "compose_convs": "autovoice.onnx_tools.passes.compose.compose_convs",
    "merge_parallel_convs": "autovoice.onnx_tools.passes.merge.merge_parallel_convs",
    "split_before_sums": "autovoice.onnx_tools.passes.sums.split_before_sums",
    "lift_conv1d": "autovoice.onnx_tools.passes.lift.lift_conv1d",
}
