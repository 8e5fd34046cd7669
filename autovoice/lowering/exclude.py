"""Which nodes of a graph stay in float32."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any

import onnx

from autovoice.errors import LoweringError, nearest


def kept_nodes(model: onnx.ModelProto, keep: Mapping[str, Any]) -> list[str]:
    """Names of the nodes that `keep` means. Raises LoweringError for a pattern that means nothing.

    An exclusion that matches no node would be a silent no-op, the commonest mistake with such lists. An operator
    type may be absent: lists of types are shared between components.
    """
    names = [n.name for n in model.graph.node]
    for pattern in keep["nodes"]:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise LoweringError(f"keep.nodes: '{pattern}' matches no node", nearest(pattern, names)[:300])
    return [
        n.name
        for n in model.graph.node
        if n.op_type in keep["op_types"] or any(fnmatchcase(n.name, p) for p in keep["nodes"])
    ]
