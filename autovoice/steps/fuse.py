"""The exports of several components as one ONNX file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx

from autovoice.onnx_tools.io import save
from autovoice.onnx_tools.merge import Member, merged
from autovoice.spec.ports import wires
from autovoice.steps.context import Context
from autovoice.store.names import MERGED

if TYPE_CHECKING:
    from autovoice.steps.fields import FuseFields


def run(context: Context[FuseFields]) -> dict[str, Any]:
    """Write model.onnx, and what has another name in it than in the exports."""
    fields = context.fields
    members = [
        Member(m["name"], onnx.load(_export(context, m["name"])), wires(m["inputs"]), wires(m["outputs"]))
        for m in fields["members"]
    ]
    model, names = merged(members, fields["inputs"], fields["outputs"])
    save(model, context.out / "model.onnx")
    (context.out / MERGED).write_text(json.dumps(names, indent=1) + "\n")
    return {"nodes": len(model.graph.node)}


def _export(context: Context[FuseFields], member: str) -> Path:
    return context.needs[f"export:{member}"] / "model.onnx"
