"""Ranges of a fused component: those of its members, under the names of the merged graph."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from autovoice.onnx_tools.ranges import read_ranges, write_ranges
from autovoice.steps.context import Context
from autovoice.store.atomic import RANGES, RECORD
from autovoice.store.hashing import uncached_sha256
from autovoice.store.names import MERGED

if TYPE_CHECKING:
    from autovoice.steps.fields import NoFields


def run(context: Context[NoFields]) -> dict[str, Any]:
    """Write ranges.json. A wire that two members saw has the range of both."""
    export = context.needs["export"]
    names = json.loads((export / MERGED).read_bytes())
    found: dict[str, tuple[float, float]] = {}
    samples = set()
    for role, folder in sorted(context.needs.items()):
        if not role.startswith("ranges:"):
            continue
        renamed = names[role.removeprefix("ranges:")]["tensors"]
        for tensor, (low, high) in read_ranges(folder / RANGES).items():
            name = renamed.get(tensor, tensor)
            least, most = found.get(name, (low, high))
            found[name] = (min(low, least), max(high, most))
        samples.add(json.loads((folder / RECORD).read_bytes())["result"]["samples"])
    count = min((s for s in samples if s is not None), default=None)
    write_ranges(context.out / RANGES, uncached_sha256(export / "model.onnx"), count, "of its members", found)
    return {"tensors": len(found), "samples": count}
