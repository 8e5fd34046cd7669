"""Floating point precisions: float32 as it is, float16 and bfloat16 with float32 inputs and outputs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx

from autovoice.errors import LoweringError
from autovoice.lowering.exclude import kept_nodes
from autovoice.onnx_io import save
from autovoice.files import link_or_copy


def keep_float32(source: Path, target: Path, keep: Mapping[str, Any]) -> dict[str, Any]:
    """Nothing to rewrite: the exported graph is the float32 graph."""
    link_or_copy(source, target)
    return {}


def to_float16(source: Path, target: Path, keep: Mapping[str, Any]) -> dict[str, Any]:
    """Weights and computation in float16, inputs and outputs as declared (ONNX Runtime's converter)."""
    from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16

    model = onnx.load(source)
    kept = kept_nodes(model, keep)
    try:
        lowered = convert_float_to_float16(
            model,
            keep_io_types=True,
            op_block_list=[*DEFAULT_OP_BLOCK_LIST, *keep["op_types"]],
            node_block_list=kept,
        )
    except (ValueError, RuntimeError, AttributeError) as e:
        raise LoweringError(f"the graph cannot be converted to float16: {e}",
                            "keep the operator or node it names in float32: component.x.keep.op_types=[…]") from e  # fmt: skip
    _check_whole(lowered, "float16")
    save(lowered, target)
    return {"kept": kept}


def to_bfloat16(source: Path, target: Path, keep: Mapping[str, Any]) -> dict[str, Any]:
    """Weights and computation in bfloat16, by casts around the nodes that compute."""
    from autovoice.lowering.bfloat16 import bfloat16_from_float32

    model = onnx.load(source)
    kept = kept_nodes(model, keep)
    lowered = bfloat16_from_float32(model, set(kept))
    _check_whole(lowered, "bfloat16")
    save(lowered, target)
    return {"kept": kept}


def _check_whole(model: onnx.ModelProto, to: str) -> None:
    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError as e:
        raise LoweringError(f"the {to} graph is not a valid model: {str(e).splitlines()[0]}",
                            "keep the node it names in float32: component.x.keep.nodes=[…]") from e  # fmt: skip
