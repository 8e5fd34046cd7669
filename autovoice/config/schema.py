"""Plain composed data → the frozen `BuildSpec`. All faults are collected and raised once."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from autovoice.config.dims import read_dims
from autovoice.config.reader import Reader
from autovoice.errors import Fault, choices, nearest
from autovoice.expr import ExprError, canonical
from autovoice.spec import (
    DTYPES,
    Axis,
    Backend,
    BuildSpec,
    Checkpoint,
    Component,
    Export,
    Gate,
    Input,
    Keep,
    OnnxFile,
    Output,
    PipelineSpec,
    Precision,
    Target,
    Tensor,
)

#: (group, name) → the group's node, or a Fault that says what exists
Lookup = Callable[[str, str, str], Mapping[str, Any] | Fault]
METRICS = ("snr_db", "cosine", "relative_l2", "max_abs")
COMPUTE_TYPES = ("float32", "float16", "bfloat16", "int8", "float8")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class SpecReader:
    """Builds specs out of one composed configuration, remembering every fault."""

    def __init__(self, data: Mapping[str, Any], lookup: Lookup) -> None:
        self.data = data
        self.lookup = lookup
        self.faults: list[Fault] = []
        self.cache: dict[tuple[str, str], Any] = {}

    def build(self) -> BuildSpec:
        pipeline = self.pipeline(Reader(self.data.get("pipeline"), "pipeline", self.faults))
        dims = read_dims(self.data.get("dims") or {}, self.faults)
        nodes = {str(name): node for name, node in (self.data.get("component") or {}).items()}
        if not nodes:
            self.faults.append(Fault("component", "the pipeline has no component", "select some: `/component/…`"))
        components = tuple(self.component(name, node) for name, node in nodes.items())
        targets = Reader(self.data, "", self.faults).strings("targets")
        for target in [t for t in dict.fromkeys(targets) if t not in nodes]:
            self.faults.append(Fault("targets", f"unknown component '{target}'", nearest(target, nodes)))
        return BuildSpec(pipeline, dims, components, targets)

    # -- tensors and dims -------------------------------------------------------------------------

    def axes(self, r: Reader, key: str) -> tuple[Axis, ...]:
        shape = []
        for i, axis in enumerate(r.take(key, list)):
            try:
                shape.append(canonical(axis if type(axis) in (int, str) else repr(axis)))
            except ExprError as e:
                r.fault(f"{key}[{i}]", str(e))
        return tuple(shape)

    def dtype(self, r: Reader, default: Any = "") -> Any:
        value = r.take("dtype", str, *([default] if default is None else []))
        if value and value not in DTYPES:
            r.fault("dtype", f"unknown dtype '{value}'", nearest(value, DTYPES))
        return value

    def tensor(self, name: str, r: Reader) -> Tensor:
        example: dict[str, Any] | None = r.take("example", dict, None)
        if example is not None and (len(example) != 1 or next(iter(example)) not in EXAMPLES):
            r.fault("example", f"got {example!r}", f"one of {choices(EXAMPLES)}, as {{normal: [mean, std]}}")
            example = None
        numbers = next(iter(example.values())) if example else None
        if example and not _drawable(next(iter(example)), numbers):
            r.fault("example", f"got {example!r}", "two numbers for normal, uniform, integers; one for the others")
            example = None
        default = r.raw("default")
        if default is not None and not isinstance(default, int | float | bool):
            r.fault("default", f"must be a number, true or false, got {default!r}")
            default = None
        return Tensor(name, self.dtype(r), self.axes(r, "shape"), default, example)

    # -- components -------------------------------------------------------------------------------

    def pipeline(self, r: Reader) -> PipelineSpec:
        name = r.take("name", str)
        if not _NAME.fullmatch(name):
            r.fault("name", f"'{name}' cannot name a folder", "use letters, digits and _")
        inputs = []
        for wire, reader in r.children("inputs"):
            inputs.append(self.tensor(wire, reader))
            reader.done()
        spec = PipelineSpec(name, tuple(inputs), r.strings("outputs"), r.take("contract", dict, {}))
        r.done()
        return spec

    def component(self, name: str, node: Any) -> Component:
        r = Reader(node, f"component.{name}", self.faults)
        if not _NAME.fullmatch(name):
            r.fault("", f"'{name}' cannot name a file", "use letters, digits and _")
        model, onnx = r.raw("model"), r.raw("onnx")
        if (model is None) == (onnx is None):
            r.fault("", "needs a `model:` or an `onnx:`", "model: {_target_: package.module.Class}, or onnx: path")
        if onnx is not None and r.data.get("checkpoint") is not None:
            r.fault("checkpoint", "an ONNX file has its weights inside", "remove `checkpoint:`")
        spec = Component(
            name=name,
            model=None if model is None else self.target(Reader(model, r.path("model"), self.faults)),
            onnx=None if onnx is None else self.onnx(r, onnx),
            checkpoint=self.checkpoint(r),
            inputs=self.inputs(r),
            outputs=self.outputs(r),
            precision=self.choice(r, "precision", self.precision),
            backend=self.choice(r, "backend", self.backend),
            gate=self.choice(r, "gate", self.gate),
            calibration=self.choice(r, "calibration", self.calibration),
            keep=self.keep(r),
            export=self.export(r),
            dims=self.narrower(r),
            seed=r.take("seed", int, 0),
        )
        r.done()
        return spec

    def target(self, r: Reader) -> Target:
        path = r.take("_target_", str)
        if path and "." not in path:
            r.fault("_target_", f"'{path}' is not a dotted path", "package.module.Class")
        return Target(path, {k: v for k, v in r.data.items() if k != "_target_"})

    def onnx(self, r: Reader, value: Any) -> OnnxFile:
        """A path, or {path, data}; files called like the ONNX file with something appended are its data too."""
        o = Reader({"path": value} if isinstance(value, str) else value, r.path("onnx"), self.faults)
        path = Path(o.take("path", str))
        beside = [f for f in sorted(path.parent.glob(f"{path.name}?*")) if f.is_file()]
        named = [path.parent / name for name in o.strings("data")]
        o.done()
        return OnnxFile(path, tuple(dict.fromkeys([*beside, *named])))

    def checkpoint(self, r: Reader) -> Checkpoint | None:
        value = r.raw("checkpoint")
        if value is None:
            return None
        c = Reader({"path": value} if isinstance(value, str) else value, r.path("checkpoint"), self.faults)
        spec = Checkpoint(
            Path(c.take("path", str)),
            c.take("key", str, None),
            c.take("prefix", str, ""),
            c.take("strict", bool, True),
        )
        c.done()
        return spec

    def inputs(self, r: Reader) -> tuple[Input, ...]:
        value = r.raw("inputs")
        if isinstance(value, list):
            value = {str(name): str(name) for name in value}
        if not isinstance(value, Mapping):
            r.fault("inputs", f"must be a list of names or {{local: wire}}, got {value!r}")
            return ()
        found = []
        for local, wire in value.items():
            i = Reader({"wire": wire} if isinstance(wire, str) else wire, r.path(f"inputs.{local}"), self.faults)
            shape = self.axes(i, "shape") if i.raw("shape") is not None else None
            found.append(Input(local, i.take("wire", str, local), self.dtype(i, None), shape))
            i.done()
        return tuple(found)

    def outputs(self, r: Reader) -> tuple[Output, ...]:
        found = []
        for wire, o in r.children("outputs"):
            found.append(Output(o.take("onnx_name", str, wire), self.tensor(wire, o)))
            o.done()
        if not found:
            r.fault("outputs", "declares no output", "outputs: {name: {dtype: float32, shape: [batch, frames]}}")
        return tuple(found)

    def keep(self, r: Reader) -> Keep:
        k = r.child("keep")
        spec = Keep(k.strings("op_types"), k.strings("nodes"), k.strings("inputs"))
        k.done()
        return spec

    def export(self, r: Reader) -> Export:
        merged = Reader(self.data, "", self.faults).child("export").data | r.take("export", dict, {})
        e = Reader(merged, r.path("export"), self.faults)
        spec = Export(e.take("opset", int, 18), e.take("simplify", bool, True))
        if not 17 <= spec.opset <= 23:
            e.fault("opset", f"{spec.opset} is not supported", "17 to 23; 18 is what every backend here parses")
        e.done()
        return spec

    def narrower(self, r: Reader) -> dict[str, dict[str, int]]:
        found: dict[str, dict[str, int]] = {}
        for name, d in r.children("dims"):
            if name not in (self.data.get("dims") or {}):
                d.fault("", f"unknown dim '{name}'", nearest(name, self.data.get("dims") or {}))
            found[name] = {p: d.take(p, int) for p in ("min", "max") if p in d.data}
            d.taken |= {"min", "max"}
            d.done()
        return found

    # -- choices: a group's node by interpolation, or its name ------------------------------------

    def choice(self, r: Reader, group: str, parse: Callable[[Reader], Any]) -> Any:
        """The component's own node or name of `group`; without one, the choice made for everything."""
        value = r.raw(group)
        value = self.data.get(group) if value is None else value
        where = r.path(group)
        if isinstance(value, str):
            if (group, value) not in self.cache:
                node = self.lookup(group, value, where)
                if isinstance(node, Fault):
                    self.faults.append(node)
                    node = self.data.get(group) or {}
                self.cache[group, value] = parse(Reader(node, f"{group}/{value}", self.faults))
            return self.cache[group, value]
        # one node for all: `${precision}` is parsed once, not once a component
        key = (group, repr(value))
        if key not in self.cache:
            self.cache[key] = parse(Reader(value, where if r.raw(group) is not None else group, self.faults))
        return self.cache[key]

    def precision(self, r: Reader) -> Precision:
        spec = Precision(
            r.take("name", str),
            r.take("type", str),
            self.target(Reader(r.take("lowering", dict), r.path("lowering"), self.faults)),
            self.keep(r),
            r.take("scope", str, "all"),
        )
        if spec.scope not in ("all", "heavy"):
            r.fault("scope", f"unknown scope '{spec.scope}'", "all, or heavy")
        if spec.type not in COMPUTE_TYPES:
            r.fault("type", f"unknown compute type '{spec.type}'", nearest(spec.type, COMPUTE_TYPES))
        r.done()
        return spec

    def backend(self, r: Reader) -> Backend:
        spec = Backend(r.take("name", str), r.take("_target_", str), r.strings("types"), r.take("options", dict, {}))
        r.done()
        return spec

    def gate(self, r: Reader) -> Gate:
        def metrics(c: Reader) -> dict[str, dict[str, float]]:
            found = {m: c.take(m, dict, {}) for m in METRICS}
            for metric, thresholds in found.items():
                for precision, value in thresholds.items():
                    if type(value) not in (int, float):
                        c.fault(f"{metric}.{precision}", f"must be a number, got {value!r}")
            c.done()
            return {m: t for m, t in found.items() if t}

        spec = Gate(metrics(r.child("component")), metrics(r.child("end_to_end")))
        r.done()
        return spec

    def calibration(self, r: Reader) -> str:
        name = r.take("name", str)
        r.done()
        return name


EXAMPLES = ("normal", "uniform", "constant", "bernoulli", "integers")


def _drawable(kind: str, value: Any) -> bool:
    numbers = value if isinstance(value, list) else [value]
    wanted = 2 if kind in ("normal", "uniform", "integers") else 1
    return len(numbers) == wanted and all(isinstance(n, int | float) for n in numbers)
