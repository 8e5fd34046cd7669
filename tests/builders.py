"""Small specifications for tests: components joined by wire names, without configuration or models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from autovoice.command.invocation import read_spec
from autovoice.config.compose import Composed, compose
from autovoice.graph.wiring import Graph, build_graph
from autovoice.plan import code
from autovoice.spec import (
    Backend,
    BuildSpec,
    Calibration,
    Component,
    Dim,
    Gate,
    Input,
    Output,
    PipelineSpec,
    Precision,
    Quantize,
    Target,
    Tensor,
)

FP32 = Precision("fp32", "float32", Target("autovoice.onnx_tools.lowering.floating.keep_float32"))
FP16 = Precision("fp16", "float16", Target("autovoice.onnx_tools.lowering.floating.to_float16"))
BF16 = Precision("bf16", "bfloat16", Target("autovoice.onnx_tools.lowering.floating.to_bfloat16"))
POLICY = Quantize(("Conv", "MatMul", "Gemm"))
INT8 = Precision(
    "int8",
    "int8",
    Target("autovoice.onnx_tools.lowering.explicit.to_qdq"),
    scope="heavy",
    quantize=POLICY,
    lowerings={"onnxruntime": Target("autovoice.onnx_tools.lowering.integer.to_u8s8")},
    highers={"default": FP32},
)
NPZ = Calibration("npz", source=Target("autovoice.calibration.sources.npz"), files=(("data.npz", Path("data.npz")),))
ORT = Backend("onnxruntime", "autovoice.backends.onnxruntime.backend.OnnxRuntime", ("float32", "float16"))
GATE = Gate({"snr_db": {"fp32": 60, "fp16": 30}}, {"snr_db": {"fp32": 50, "fp16": 20}})
MODEL = Target("autovoice.models.mel_projection.MelProjection")
FRAMES = Dim("frames", 2, 4, 8, trace=6)


def wire(name: str, *shape: str | int, dtype: str = "float32", **more: Any) -> Tensor:
    return Tensor(name, dtype, shape or (1, "frames"), **more)


def component(
    name: str, reads: Sequence[str | Input] = ("x",), makes: Sequence[str | Tensor] = (), **changes: Any
) -> Component:
    """A float32 component that reads wires under their own names and makes `<name>_out` unless told otherwise."""
    inputs = tuple(r if isinstance(r, Input) else Input(r, r) for r in reads)
    made = tuple(m if isinstance(m, Tensor) else wire(m) for m in makes or (f"{name}_out",))
    values: dict[str, Any] = {
        "model": MODEL,
        "onnx": None,
        "checkpoint": None,
        "precision": FP32,
        "backend": ORT,
        "gate": GATE,
    }
    return Component(name, inputs=inputs, outputs=tuple(Output(t.name, t) for t in made), **values | changes)


def quantized(name: str, reads: Sequence[str | Input] = ("x",), **changes: Any) -> Component:
    """A component in int8, calibrated on samples of its own unless told otherwise."""
    backend = replace(ORT, types=(*ORT.types, "int8"))
    gate = Gate({"snr_db": {"fp32": 60, "int8": 20}}, {"snr_db": {"fp32": 50, "int8": 15}})
    values = {"precision": INT8, "backend": backend, "gate": gate, "calibration": NPZ, "quantize": POLICY}
    return component(name, reads, **values | changes)


def build_spec(
    *components: Component,
    inputs: Sequence[str | Tensor] = ("x",),
    dims: Sequence[Dim] = (FRAMES,),
    outputs: tuple[str, ...] = (),
    targets: tuple[str, ...] = (),
) -> BuildSpec:
    external = tuple(t if isinstance(t, Tensor) else wire(t) for t in inputs)
    return BuildSpec(PipelineSpec("toy", external, outputs), {d.name: d for d in dims}, components, targets)


def sent(role: str, wire: str) -> dict[str, str]:
    """A port whose values another step has written."""
    return {"role": role, "wire": wire}


def graph_of(*components: Component, **parts: Any) -> Graph:
    return build_graph(build_spec(*components, **parts))


def graph_from(composed: Composed) -> Graph:
    return build_graph(*read_spec(composed.data, composed.lookup))


def composed_graph(*overrides: str, config_dir: Path | None = None) -> Graph:
    """The graph of the shipped tree, and of a user's own beside it, under these overrides."""
    return graph_from(compose(config_dir, overrides))


def write_tree(root: Path, files: Mapping[str, str]) -> Path:
    """Write text files below `root`, which is returned."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def forget_sources() -> None:
    """What a process reads of source files it reads once; a test that edits them starts over."""
    code.forget()
