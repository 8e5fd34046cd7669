"""Built folders as a build leaves them, written by hand: one engine that multiplies by a number the contract names."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from autovoice.runtime.manifest import NAME, SCHEMA, dump, files_in, read_manifest, sealed


def model(factor: float, weight: onnx.TensorProto | None = None) -> bytes:
    """y = factor · x."""
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n"]) for n in "xy")
    weight = weight or numpy_helper.from_array(np.array([factor], np.float32), "w")
    graph = helper.make_graph([helper.make_node("Mul", ["x", "w"], ["y"], "scale")], "scale", [x], [y], [weight])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    content: bytes = made.SerializeToString()
    return content


def entry(name: str, content: bytes, loader: str = "onnxruntime", **changes: Any) -> dict[str, Any]:
    """The manifest's of a component."""
    return {
        "name": name,
        "file": f"{name}.onnx",
        "sha256": hashlib.sha256(content).hexdigest(),
        "size": len(content),
        "beside": {},
        "backend": {"name": loader, "loader": loader, "options": {}},
        "inputs": {"x": "x"},
        "outputs": {"y": {"wire": "y"}},
    } | changes


def manifest(components: list[dict[str, Any]], **changes: Any) -> dict[str, Any]:
    vector = {"dtype": "float32", "shape": ["n"], "default": None}
    data = {
        "schema": SCHEMA,
        "pipeline": "scale",
        "dims": {"n": {"min": 1, "opt": 4, "max": 64}},
        "tensors": {"x": vector, "y": vector},
        "inputs": ["x"],
        "outputs": ["y"],
        "components": components,
        "contract": {},
        "steps": {},
    }
    return sealed(data | changes)


def fill(folder: Path, factor: float, content: bytes | None = None, **changes: Any) -> Path:
    """A whole build: its engine, and a manifest whose contract says what it does. `changes` are of the engine."""
    content = model(factor) if content is None else content
    folder.mkdir(exist_ok=True)
    (folder / NAME).write_bytes(dump(manifest([entry("scale", content, **changes)], contract={"factor": factor})))
    (folder / "scale.onnx").write_bytes(content)
    return folder


def own(folder: Path) -> set[str]:
    """The names that are such a build's own."""
    data: Mapping[str, Any] = read_manifest(folder) if (folder / NAME).exists() else {"components": []}
    return {NAME, *files_in(data)}
