"""A place to run steps one by one: two components of matrix products, `encoder` (x → a) and `decoder` (a → y)."""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from autovoice.steps.context import Context
from autovoice.store.atomic import RECORD
from tests.onnx_models import KEEP_NOTHING, saved, two_layers

FLOAT = {"dtype": "float32", "shape": ["n", 8]}
DIMS = {"n": {"min": 1, "opt": 4, "max": 9, "formula": None, "multiple": 1}}
ORT: dict[str, Any] = {
    "name": "onnxruntime",
    "target": "autovoice.backends.onnxruntime.backend.OnnxRuntime",
    "options": {},
}
POLICY: dict[str, Any] = {"op_types": ["MatMul"], "include": [], "exclude": [], "first": True, "last": True}
LOWERING = {"target": "autovoice.onnx_tools.lowering.integer.to_u8s8", "kwargs": {}}
FLOAT_LOWERING = {"target": "autovoice.onnx_tools.lowering.floating.keep_float32", "kwargs": {}}
MINMAX = {"method": {"default": "minmax"}, "percentile": 99.99}
ABOUT = {"type": "int8", "gate": "int8", "quantized": True, "given": False, "module": False, "higher": "fp32"}
ABOUT |= {"members": [], "inputs": ["x"]}
COMPONENTS: dict[str, Any] = {
    "encoder": {"backend": ORT, "inputs": {"x": {"wire": "x"}}, "outputs": {"y": FLOAT | {"wire": "a"}}},
    "decoder": {"backend": ORT, "inputs": {"x": {"wire": "a"}}, "outputs": {"y": FLOAT | {"wire": "y"}}},
}


@dataclass(frozen=True)
class Ran:
    """A step's result, and the folder that it wrote."""

    result: dict[str, Any]
    folder: Path

    def json(self, name: str) -> Any:
        return json.loads((self.folder / name).read_bytes())


@dataclass
class Bench:
    """Folders below `root`, one a step."""

    root: Path
    ran: dict[str, Ran] = field(default_factory=dict)

    def run(
        self,
        name: str,
        fields: Mapping[str, Any],
        needs: Mapping[str, str] | None = None,
        files: Mapping[str, Path] | None = None,
        kind: str = "",
    ) -> Ran:
        """The step called `name`; `needs` are roles and names of steps that ran."""
        folder = self.root / name
        folder.mkdir(parents=True)
        folders = {role: self.ran[step].folder for role, step in (needs or {}).items()}
        module = importlib.import_module(f"autovoice.steps.{kind or name.rpartition('.')[2]}")
        result = module.run(Context(fields, folders, files or {}, folder))
        return self.done(name, result, folder)

    def done(self, name: str, result: Mapping[str, Any], folder: Path) -> Ran:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / RECORD).write_text(json.dumps({"result": result}))
        self.ran[name] = Ran(dict(result), folder)
        return self.ran[name]

    # -- steps that others stand on ----------------------------------------------------------------

    def exported(self, name: str, model: onnx.ModelProto | None = None) -> Ran:
        made = self.done(f"{name}.export", {"nodes": 3}, self.root / f"{name}.export")
        seed = sum(name.encode())
        saved(model or two_layers(np.random.default_rng(seed)), made.folder / "model.onnx")
        return made

    def sampled(self, count: int = 6, rows: int = 3) -> Ran:
        """Samples of the pipeline, from a function of the project's own."""
        fields = samples_fields("", {"x": FLOAT | {"default": None, "example": None}}, "rows", count=count, rows=rows)
        return self.run("samples", fields)

    def ranged(self, name: str = "encoder") -> Ran:
        """Ranges of a component that reads `x`, from samples, with its export."""
        self.exported(name)
        if "samples" not in self.ran:
            self.sampled()
        needs = {"export": f"{name}.export", "samples": "samples"}
        self.run(f"{name}.observe", observe_fields(), needs)
        needs = {"export": f"{name}.export", "observe": f"{name}.observe"}
        return self.run(f"{name}.ranges", MINMAX, needs)

    def built(self, name: str, precision: str = "fp32") -> Ran:
        """An engine of an exported component: in fp32, or in int8 with ranges that are there."""
        suffix = "" if precision == "int8" else "_fp32"
        needs = {"export": f"{name}.export"} | ({"ranges": f"{name}.ranges"} if precision == "int8" else {})
        fields = INT8 if precision == "int8" else FP32
        self.run(f"{name}.lower{suffix}", fields, needs, kind="lower")
        needs = {"lower": f"{name}.lower{suffix}", "export": f"{name}.export"}
        return self.run(f"{name}.build{suffix}", fields, needs, kind="build")

    def referenced(self) -> None:
        """Inputs of the pipeline, and what both float32 graphs answer to them."""
        self.run("inputs", {"tensors": {"x": FLOAT | {"default": None, "example": None}}, "dims": DIMS, "seed": 0})
        before = "inputs"
        for name, c in COMPONENTS.items():
            ((local, port),) = c["inputs"].items()
            role = "inputs" if before == "inputs" else f"reference:{before}"
            fields = {"reads": {local: port | {"role": role}}, "inputs": {local: FLOAT}, "outputs": c["outputs"]}
            fields |= {"output_order": ["y"], "formulas": {}}
            step = before if before == "inputs" else f"{before}.reference"
            onnx_file = self.ran[f"{name}.export"].folder / "model.onnx"
            self.run(f"{name}.reference", fields, {role: step}, {"onnx": onnx_file}, kind="reference_onnx")
            before = name


def samples_fields(
    component: str, inputs: Mapping[str, Any], source: str, symbols: Sequence[str] = ("n",), **kwargs: Any
) -> dict[str, Any]:
    return {
        "component": component,
        "source": {"target": f"tests.steps.user_code.{source}", "kwargs": kwargs},
        "inputs": inputs,
        "formulas": {},
        "symbols": list(symbols),
        "min_samples": 2,
    }


def observe_fields(histograms: bool = False, shard: Sequence[int] = (0, 1)) -> dict[str, Any]:
    return {
        "reads": {"x": {"role": "samples", "wire": "x"}},
        "histograms": {"default": histograms},
        "shard": list(shard),
    }


def _lowered(precision: str, dtype: str, lowering: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "precision": {"name": precision, "type": dtype, "scope": "heavy"},
        "lowering": lowering,
        "keep": KEEP_NOTHING,
        "own_keep": KEEP_NOTHING,
        "backend": ORT,
        "inputs": {"x": FLOAT},
        "outputs": {"y": FLOAT | {"wire": "y"}},
        **more,
    }


INT8 = _lowered("int8", "int8", LOWERING, quantize=POLICY)
FP32 = _lowered("fp32", "float32", FLOAT_LOWERING)
