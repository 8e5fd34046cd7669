"""The policies of a fused component's members as one policy of the graph that they were merged into."""

from __future__ import annotations

import glob
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import onnx

from autovoice.errors import LoweringError
from autovoice.onnx_tools.lowering.exclude import check_keep, kept_nodes
from autovoice.onnx_tools.lowering.policy import chosen_nodes
from autovoice.store.names import MERGED

if TYPE_CHECKING:
    from autovoice.spec.fields import PolicyField, QuantizeField
    from autovoice.steps.fields import BuildFields, LowerFields

#: the fields of a step that has policies
F = TypeVar("F", "LowerFields", "BuildFields")


def in_fused_names(fields: F, needs: Mapping[str, Path]) -> F:
    """A step's fields; with `members`, their policies resolved in their own graphs and put in place of `keep`, …

    First and last node, patterns and inputs mean what they mean in the member alone.
    """
    if "members" not in fields:
        return fields
    names = json.loads((needs["export"] / MERGED).read_bytes())
    kept, chosen = [], []
    members: Mapping[str, PolicyField] = fields["members"]
    types_kept = [set(policy["keep"]["op_types"]) for policy in members.values()]
    common = set.intersection(*types_kept)
    for member, policy in members.items():
        model = onnx.load(needs[f"export:{member}"] / "model.onnx")
        renamed, types = names[member]["nodes"], {n.name: n.op_type for n in model.graph.node}
        try:
            check_keep(model, policy["own_keep"])
            kept += [renamed.get(n, n) for n in kept_nodes(model, policy["keep"]) if types[n] not in common]
            if "quantize" in policy:
                chosen += [renamed.get(n, n) for n in chosen_nodes(model, policy["quantize"], policy["keep"])]
        except LoweringError as e:
            raise LoweringError(f"{member}: {e.fact}", e.fix) from e
    keep = {"op_types": sorted(common), "nodes": _exactly(kept), "inputs": []}
    found: dict[str, Any] = {**fields, "keep": keep}
    if "own_keep" in fields:  # what the members ask for has been checked, each in its own names
        found["own_keep"] = {"op_types": [], "nodes": [], "inputs": []}
    if "quantize" in fields:
        found["quantize"] = _policy(fields["quantize"], chosen)
    return cast(F, found)


def _policy(given: QuantizeField, chosen: list[str]) -> QuantizeField:
    types = given["op_types"] if chosen else []
    return {"op_types": types, "include": [], "exclude": [], "first": True, "last": True, "nodes": chosen}


def _exactly(names: Iterable[str]) -> list[str]:
    """Patterns that match these names alone."""
    return [glob.escape(name) for name in names]
