"""The exports of several components as one ONNX file."""

from __future__ import annotations

import json
from typing import Any

import onnx

from autovoice.onnx_tools.io import save
from autovoice.onnx_tools.merge import Member, merged
from autovoice.steps.context import Context
from autovoice.store.names import MERGED


def run(context: Context) -> dict[str, Any]:
    """Write model.onnx, and what has another name in it than in the exports."""
    fields = context.fields
    members = [
        Member(m["name"], onnx.load(context.needs[f"export:{m['name']}"] / "model.onnx"), m["inputs"], m["outputs"])
        for m in fields["members"]
    ]
    model, names = merged(members, fields["inputs"], fields["outputs"])
    save(model, context.out / "model.onnx")
    (context.out / MERGED).write_text(json.dumps(names, indent=1) + "\n")
    return {"nodes": len(model.graph.node)}
