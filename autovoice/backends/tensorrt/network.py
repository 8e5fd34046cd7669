"""ONNX → a TensorRT network, and what a network says of itself. The tool's module is handed in, never imported."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any

from autovoice.backends.tensorrt.log import Log
from autovoice.backends.tensorrt.versions import Features
from autovoice.errors import BuildError

#: the tool's names of types → autovoice's
DTYPES = {
    "FLOAT": "float32",
    "HALF": "float16",
    "BF16": "bfloat16",
    "FP8": "float8",
    "INT8": "int8",
    "INT32": "int32",
    "INT64": "int64",
    "UINT8": "uint8",
    "BOOL": "bool",
}
_HEAVY = ("CONVOLUTION", "DECONVOLUTION", "MATRIX_MULTIPLY")
#: layers that only move, make or name values
_NEUTRAL = ("SHUFFLE", "CONSTANT", "CAST", "IDENTITY", "SHAPE", "QUANTIZE", "DEQUANTIZE", "SQUEEZE", "UNSQUEEZE")


def network_from_onnx(
    module: ModuleType, builder: Any, path: Path, features: Features, log: Log, typed: bool = True
) -> tuple[Any, Any]:
    """(network, parser: it owns the weights and must outlive the build). Raises BuildError in the parser's words.

    A `typed` network computes in the types that its graph has; one that is not leaves them to the builder.
    """
    flag = module.NetworkDefinitionCreationFlag.STRONGLY_TYPED if typed and features.strongly_typed_flag else None
    network = builder.create_network(1 << int(flag) if flag is not None else 0)
    parser = module.OnnxParser(network, log.logger)
    if not parser.parse(path.read_bytes()):
        said = [parser.get_error(i) for i in range(parser.num_errors)]
        first = " ".join(said[0].desc().split())[:300] if said else log.why()
        where = f"node '{said[0].node_name()}' ({said[0].node_operator()}): " if said and said[0].node_name() else ""
        fix = "replace the operator, or build this component elsewhere: component.<name>.backend=onnxruntime"
        raise BuildError(f"{_tool(module)} cannot parse the graph: {where}{first}", fix)
    return network, parser


def io_of(network: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Inputs and outputs: {name: {dtype, shape}}, −1 where dynamic."""
    inputs = [network.get_input(i) for i in range(network.num_inputs)]
    outputs = [network.get_output(i) for i in range(network.num_outputs)]
    made = tuple({t.name: {"dtype": dtype_of(t.dtype), "shape": list(t.shape)} for t in ts} for ts in (inputs, outputs))
    return made[0], made[1]


def dtype_of(dtype: Any) -> str:
    name = str(dtype.name)
    return DTYPES.get(name, name.lower())


def types_of(network: Any) -> dict[str, dict[str, int]]:
    """{"file", "heavy": {type: layers}} of a strongly typed network, which says what its engine computes in."""
    layers = [network.get_layer(i) for i in range(network.num_layers)]
    makers = {n.get_output(i).name: n for n in layers for i in range(n.num_outputs)}
    everything: Counter[str] = Counter()
    heavy: Counter[str] = Counter()
    for layer in layers:
        kind = layer.type.name
        if kind in _NEUTRAL or not layer.num_outputs:
            continue
        dtype = dtype_of(layer.get_output(0).dtype)
        if kind in _HEAVY:
            dtype = _read_type(layer, makers)
            heavy[dtype] += 1
        if dtype.startswith(("float", "bfloat")) or kind in _HEAVY:
            everything[dtype] += 1
    return {"file": dict(everything), "heavy": dict(heavy)}


def _read_type(layer: Any, makers: dict[str, Any]) -> str:
    """What a heavy layer multiplies: behind a dequantization, the type that is stored."""
    tensor = layer.get_input(0)
    maker = makers.get(tensor.name)
    while maker is not None and maker.type.name in ("SHUFFLE", "SQUEEZE", "UNSQUEEZE"):
        maker = makers.get(maker.get_input(0).name)
    if maker is not None and maker.type.name == "DEQUANTIZE":
        tensor = maker.get_input(0)
    return dtype_of(tensor.dtype)


def _tool(module: ModuleType) -> str:
    return module.__name__.removesuffix("_bindings")
