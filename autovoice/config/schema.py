"""Plain composed data → the frozen `BuildSpec`. All faults are collected and raised once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from autovoice.config.backend_options import read_options
from autovoice.config.dims import read_dims
from autovoice.config.example import override
from autovoice.config.fuse import check_targets, read_groups, shared_by
from autovoice.config.lookup import Lookup
from autovoice.config.mismatch import read_policy
from autovoice.config.onnx_scan import quantized_operators
from autovoice.config.quantize import prequantized_note
from autovoice.config.reader import NAME, Reader
from autovoice.config.tensors import TensorReader
from autovoice.errors import Fault, nearest
from autovoice.spec import (
    BackendOrder,
    BuildSpec,
    Checkpoint,
    Component,
    Export,
    Input,
    OnnxFile,
    Output,
    PipelineSpec,
    Precision,
    Quantize,
)

#: nodes that could stand where something else does
_MODEL = "{_target_: package.module.Class}"
_PACKAGE = "# @package _global_"
_TENSOR = "{dtype: float32, shape: [batch, frames]}"


class SpecReader(TensorReader):
    """Builds specs out of one composed configuration, remembering every fault."""

    def __init__(self, data: Mapping[str, Any], lookup: Lookup) -> None:
        super().__init__(data, lookup)
        self.orders: dict[str, BackendOrder] = {}

    def build(self) -> BuildSpec:
        pipeline = self.read_pipeline(self.data.get("pipeline"))
        dims = read_dims(self.data.get("dims") or {}, self.faults)
        named = f"{{name: {{model: {_MODEL}}}}}"
        nodes = Reader(self.data.get("component") or {}, "component", self.faults, named).data
        if not nodes and not any(f.where == "component" for f in self.faults):
            self.faults.append(Fault("component", "the pipeline has no component", "select some: `/component/…`"))
        groups, said = read_groups(self.data.get("fuse"), nodes, self.faults)
        parts = tuple(self.component(name, shared_by(said, name, node)) for name, node in nodes.items())
        targets = Reader(self.data, "", self.faults).strings("targets")
        check_targets(targets, nodes, groups, self.faults)
        notes = tuple(prequantized_note(c) for c in parts if c.prequantized)
        timed = self.root("timed")
        return BuildSpec(pipeline, dims, parts, targets, timed, notes, tuple(groups), self.orders)

    def root(self, key: str) -> bool:
        """A switch of the top level."""
        return Reader(self.data, "", self.faults).take(key, bool, False)

    # -- components -------------------------------------------------------------------------------

    def read_pipeline(self, node: Any) -> PipelineSpec:
        """The node `pipeline:`, which the pipeline's own file declares."""
        if not isinstance(node, Mapping):
            fix = f"pipeline: {{name: mine}}, in its file, whose first line is `{_PACKAGE}`"
            self.faults.append(Fault("pipeline", f"must be a mapping, got {node!r}", fix))
            return PipelineSpec("", (), ())
        if "pipeline" in node:
            fact = "lies one level too deep: its file has no package, so that everything in it is below"
            self.faults.append(Fault("pipeline", fact, f"the first line of a pipeline's file is `{_PACKAGE}`"))
            return PipelineSpec("", (), ())
        return self.pipeline(Reader(node, "pipeline", self.faults))

    def pipeline(self, r: Reader) -> PipelineSpec:
        name = r.take("name", str)
        if name and not NAME.fullmatch(name):
            r.fault("name", f"'{name}' cannot name a folder", "use letters, digits and _")
        inputs = []
        for wire, reader in r.children("inputs", _TENSOR):
            inputs.append(self.tensor(wire, reader))
            reader.done()
        spec = PipelineSpec(name, tuple(inputs), r.strings("outputs"), r.take("contract", dict, {}))
        r.done()
        return spec

    def component(self, name: str, node: Any) -> Component:
        r = Reader(node, f"component.{name}", self.faults, f"{{model: {_MODEL}}}")
        if not NAME.fullmatch(name):
            r.fault("", f"'{name}' cannot name a file", "use letters, digits and _")
        model, onnx = r.raw("model"), r.raw("onnx")
        precision = self.choice(r, "precision", self.precision)
        backend = self.choice(r, "backend", self.backend_or_order)
        on_mismatch, fallback = read_policy(self, r)
        among = backend.backends if isinstance(backend, BackendOrder) else (backend,)
        own = read_options(r, (b for b in (*among, fallback) if b is not None), self.backend_names)
        if model is None and onnx is None:
            r.fault("", "needs a `model:` or an `onnx:`", f"model: {_MODEL}, or onnx: path")
        if model is not None and onnx is not None:
            fix = f"it is made from one of them: '~{r.path('model')}', or '~{r.path('onnx')}'"
            r.fault("", "has both a `model:` and an `onnx:`", fix)
        elif onnx is not None and r.data.get("checkpoint") is not None:
            r.fault("checkpoint", "an ONNX file has its weights inside", "remove `checkpoint:`")
        spec = Component(
            name=name,
            model=None if model is None else self.target(Reader(model, r.path("model"), self.faults, _MODEL)),
            onnx=None if onnx is None else self.onnx(r, onnx),
            checkpoint=self.checkpoint(r),
            inputs=self.inputs(r),
            outputs=self.outputs(r),
            precision=precision,
            backend=among[-1].with_options(own),
            gate=self.choice(r, "gate", self.gate),
            calibration=self.choice(r, "calibration", self.calibration),
            quantize=self.policy(r, precision),
            only_if_faster=self.shared(r, "only_if_faster", bool, False),
            on_mismatch=on_mismatch,
            fallback=None if fallback is None else fallback.with_options(own),
            options=own,
            keep=self.keep(r),
            export=self.export(r),
            dims=self.narrower(r),
            seed=r.take("seed", int, 0),
        ).in_file_precision()
        r.done()
        if isinstance(backend, BackendOrder):
            self.orders[name] = replace(backend, backends=tuple(b.with_options(own) for b in backend.backends))
        return spec

    def policy(self, r: Reader, precision: Precision) -> Quantize | None:
        """The component's `quantize:` over its precision's; of no meaning for a precision that has none."""
        own = self.quantize(r, precision.quantize)
        return None if precision.quantize is None else own

    def onnx(self, r: Reader, value: Any) -> OnnxFile:
        """A path, or {path, data}; files called like the ONNX file with something appended are its data too."""
        o = Reader({"path": value} if isinstance(value, str) else value, r.path("onnx"), self.faults, "model.onnx")
        path = self.located(o, "path", o.take("path", str))
        beside = [f for f in sorted(path.parent.glob(f"{path.name}?*")) if f.is_file()]
        named = [path.parent / name for name in o.strings("data")]
        o.done()
        return OnnxFile(path, tuple(dict.fromkeys([*beside, *named])), quantized_operators(path))

    def checkpoint(self, r: Reader) -> Checkpoint | None:
        value = r.raw("checkpoint")
        if value is None:
            return None
        node = {"path": value} if isinstance(value, str) else value
        c = Reader(node, r.path("checkpoint"), self.faults, "weights.safetensors")
        spec = Checkpoint(
            self.located(c, "path", c.take("path", str)),
            c.take("key", str, None),
            c.take("prefix", str, ""),
            c.take("strict", bool, True),
        )
        c.done()
        return spec

    def inputs(self, r: Reader) -> tuple[Input, ...]:
        value = r.raw("inputs")
        if isinstance(value, list):
            value = {name: name for name in r.strings("inputs")}
        if not isinstance(value, Mapping):
            names = f"[{value}]" if isinstance(value, str) else "[wire]"
            fix = f"{override(r.path('inputs'), names)}, or {override(r.path('inputs'), '{local: wire}')}"
            r.fault("inputs", f"must be a list of names or {{local: wire}}, got {value!r}", fix)
            return ()
        found = []
        for local, wire in value.items():
            node = {"wire": wire} if isinstance(wire, str) else wire
            i = Reader(node, r.path(f"inputs.{local}"), self.faults, "wire")
            if not isinstance(node, Mapping):  # that has been told
                continue
            shape = self.axes(i, "shape") if i.raw("shape") is not None else None
            found.append(Input(local, i.take("wire", str, local), self.dtype(i, None), shape))
            i.done()
        return tuple(found)

    def outputs(self, r: Reader) -> tuple[Output, ...]:
        found = []
        for wire, o in r.children("outputs", _TENSOR):
            found.append(Output(o.take("onnx_name", str, wire), self.tensor(wire, o)))
            o.done()
        if not found:
            r.fault("outputs", "declares no output", f"outputs: {{name: {_TENSOR}}}")
        return tuple(found)

    def export(self, r: Reader) -> Export:
        own = r.take("export", dict, {}, "{opset: 18}")
        merged = Reader(self.data, "", self.faults).child("export", "{opset: 18}").data | own
        e = Reader(merged, r.path("export") if own else "export", self.faults)
        spec = Export(e.take("opset", int, 18), e.take("simplify", bool, True))
        if not 17 <= spec.opset <= 23:
            e.fault("opset", f"{spec.opset} is not supported", "17 to 23; 18 is what every backend here parses")
        e.done()
        return spec

    def narrower(self, r: Reader) -> dict[str, dict[str, int]]:
        found: dict[str, dict[str, int]] = {}
        for name, d in r.children("dims", "{max: 512}"):
            if name not in (self.data.get("dims") or {}):
                d.fault("", f"unknown dim '{name}'", nearest(name, self.data.get("dims") or {}))
            limits = {p: d.take(p, int) for p in ("min", "max") if p in d.data}
            found[name] = {p: v for p, v in limits.items() if v == d.data[p]}  # without those that are told
            d.taken |= {"min", "max"}
            d.done()
        return found
