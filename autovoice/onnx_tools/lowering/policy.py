"""The nodes of a graph that a quantization policy selects."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

import onnx

from autovoice.errors import LoweringError, nearest
from autovoice.onnx_tools.guard import inferred
from autovoice.onnx_tools.lowering.exclude import FLOATS, kept_nodes
from autovoice.spec import QUANTIZABLE

if TYPE_CHECKING:
    from autovoice.spec.fields import KeepField, QuantizeField


def chosen_nodes(model: onnx.ModelProto, policy: QuantizeField, keep: KeepField) -> list[str]:
    """Names of the nodes to quantize, in graph order: what the policy means, without what stays float32.

    A pattern is matched against a node's name and the names of its weights: `resblocks.*` means the convolutions
    whose parameters are called so in the module. Raises LoweringError for a pattern that matches nothing, and for
    a policy that leaves nothing of what could be quantized.
    """
    every = quantizable(model)
    possible = [n for n in every if n.op_type in policy["op_types"]]
    names = _names(model, possible)
    _check_patterns(policy, names)
    kept = set(kept_nodes(model, keep))
    ends = {every[0].name} if every and not policy["first"] else set()
    ends |= {every[-1].name} if every and not policy["last"] else set()
    meant = policy.get("nodes")  # exact names, where not a person but a search chooses
    chosen = [
        n.name
        for n in possible
        if n.name not in ends | kept and (_selected(names[n.name], policy) if meant is None else n.name in meant)
    ]
    if possible and not chosen:
        types = ", ".join(sorted({n.op_type for n in every}))
        fix = f"it has {types}; ++component.<name>.quantize.op_types=[] leaves it as it is, on purpose"
        raise LoweringError(f"the policy chooses none of {len(every)} nodes to quantize", fix)
    return chosen


def quantizable(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """Nodes that a policy can choose: of these operators, computing in floating point."""
    found = [n for n in model.graph.node if n.op_type in QUANTIZABLE]
    types = {t.name: t.data_type for t in model.graph.initializer}
    if any(n.input[1] not in types for n in found):  # a product of two activations: of indices, it may be
        graph = inferred(model)
        types |= {v.name: v.type.tensor_type.elem_type for v in (*graph.value_info, *graph.input, *graph.output)}
    return [n for n in found if types.get(n.input[1], onnx.TensorProto.FLOAT) in FLOATS]


def watched_tensors(model: onnx.ModelProto) -> list[str]:
    """Every activation that a quantizable node reads or writes: whatever the policy, its range is there."""
    weights = {t.name for t in model.graph.initializer}
    # a bias is a weight, whatever its name: the third input of Conv, ConvTranspose and Gemm
    found = (t for n in quantizable(model) for t in (*n.input[:2], *n.output))
    return sorted({t for t in found if t and t not in weights})


def _names(model: onnx.ModelProto, nodes: list[onnx.NodeProto]) -> dict[str, tuple[str, ...]]:
    weights = {t.name for t in model.graph.initializer}
    return {n.name: (n.name, *(i for i in n.input if i in weights)) for n in nodes}


def _check_patterns(policy: QuantizeField, names: Mapping[str, tuple[str, ...]]) -> None:
    for key in ("include", "exclude"):
        for pattern in policy[key]:
            if not any(_matches(pattern, own) for own in names.values()):
                known = {name for own in names.values() for name in own}
                fact = f"quantize.{key}: '{pattern}' matches no node and no weight"
                raise LoweringError(fact, nearest(pattern, known)[:300])


def _selected(names: tuple[str, ...], policy: QuantizeField) -> bool:
    included = not policy["include"] or any(_matches(p, names) for p in policy["include"])
    return included and not any(_matches(p, names) for p in policy["exclude"])


def _matches(pattern: str, names: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name, pattern) for name in names)
