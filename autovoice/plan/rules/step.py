"""A step, and the parts that its record is made of."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from autovoice.dims.expressions import symbols
from autovoice.errors import CheckpointError, ConfigError, Fault
from autovoice.graph.wiring import Graph
from autovoice.plan.shards import shards_of
from autovoice.spec import Backend, Component, Dim, Target, Tensor

#: distributions whose version a kind of step depends on; each is imported in the worker, never here
TOOLS = {
    "inputs": ("numpy",),
    "export": ("torch", "onnx", "onnxscript", "onnxslim", "onnxruntime"),
    "import_onnx": ("onnx", "onnxslim", "onnxruntime"),
    "reference": ("torch", "numpy"),
    "reference_onnx": ("onnxruntime", "numpy"),
    "fuse": ("onnx",),
    "samples": ("numpy",),
    "coverage": ("numpy",),
    "activations": ("onnxruntime", "numpy"),
    "observe": ("onnxruntime", "onnx", "numpy"),
    "ranges": ("numpy",),
    "ranges_fused": ("numpy",),
    "methods": (),
    "ranges_given": ("onnx",),
    "ranges_calibrator": ("onnx",),
    "lower": ("onnx", "onnxruntime"),
    "passes": ("onnx",),
    "build": ("onnx",),
    "race": ("numpy",),
    "verify": ("numpy",),
    "swaps": ("onnxruntime", "numpy"),
    "latency": ("numpy",),
    "end_to_end": ("numpy",),
    "sensitivity": ("onnx", "onnxruntime", "numpy"),
    "search": ("onnx", "onnxruntime", "numpy"),
}
#: kinds that measure time: nothing else may run meanwhile
ALONE = ("race", "latency")


@dataclass(frozen=True)
class Step:
    """One thing to do, or to reuse."""

    id: str
    component: str
    kind: str
    fields: Mapping[str, Any]
    needs: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, Path] = field(default_factory=dict)
    targets: tuple[str, ...] = ()
    tools: tuple[str, ...] = ()
    #: fields to try it with after its native code has crashed, one after another; no part of its key
    after_crash: tuple[Mapping[str, Any], ...] = ()
    #: where the configuration names a file, if that is not at the component, under the file's name here; no part either
    places: Mapping[str, str] = field(default_factory=dict)

    @property
    def alone(self) -> bool:
        return self.kind in ALONE


def component_step(
    c: Component,
    kind: str,
    fields: Mapping[str, Any],
    needs: Mapping[str, str] | None = None,
    files: Mapping[str, Path] | None = None,
    targets: tuple[str, ...] = (),
    name: str = "",
) -> Step:
    """A component's step; `name` where the user's word for it is not the kind."""
    step_id = f"{c.name}.{name or kind}"
    return Step(step_id, c.name, kind, fields, needs or {}, files or {}, (*code_of(kind), *targets), TOOLS[kind])


def code_of(kind: str) -> tuple[str, ...]:
    return (f"autovoice.steps.{kind}.run",)


def engine_of(c: Component) -> str:
    """The step that holds the engine to use: where the slower of two builds is dropped, that choice."""
    return f"{c.name}.{'race' if c.raced and c.only_if_faster else 'build'}"


def export_of(c: Component) -> str:
    """The step that holds the component as a float32 ONNX file."""
    return f"{c.name}.{'fuse' if c.members else 'export'}"


def target(t: Target) -> dict[str, Any]:
    return {"target": t.path, "kwargs": dict(t.kwargs)}


def backend(b: Backend) -> dict[str, Any]:
    """What makes an engine."""
    return {"name": b.name, "target": b.target, "options": dict(b.options)}


def loader(b: Backend) -> dict[str, Any]:
    """What loads an engine."""
    return backend(b) | ({"session": dict(b.session)} if b.session else {})


def policy(c: Component) -> dict[str, Any]:
    """What is quantized on its backend, as plain data."""
    assert c.quantize is not None
    there = asdict(c.quantize.on(c.backend.name))
    return {k: list(v) if isinstance(v, tuple) else v for k, v in there.items() if k != "only_on"}


def model(c: Component) -> dict[str, Any]:
    assert c.model is not None
    checkpoint = c.checkpoint and {k: v for k, v in asdict(c.checkpoint).items() if k != "path"}
    return {"model": target(c.model), "checkpoint": checkpoint, "seed": c.seed}


def model_targets(c: Component) -> tuple[str, ...]:
    """The code of the module, and of the objects that its arguments make in turn."""
    assert c.model is not None
    return targets_of(c.model)


def targets_of(t: Target) -> tuple[str, ...]:
    return (t.path, *_nested_targets(dict(t.kwargs)))


def _nested_targets(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        if isinstance(value.get("_target_"), str):
            yield value["_target_"]
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from _nested_targets(item)


def weights(c: Component) -> dict[str, Path]:
    """The file of weights, and those that it names where it is the index of several."""
    if c.checkpoint is None:
        return {}
    try:
        shards = shards_of(c.checkpoint.path)
    except CheckpointError as e:
        raise ConfigError([Fault(f"component.{c.name}.checkpoint", e.fact, e.fix)]) from e
    return {"checkpoint": c.checkpoint.path} | {f"checkpoint file {name}": path for name, path in shards.items()}


def onnx_files(c: Component) -> dict[str, Path]:
    assert c.onnx is not None
    folder = c.onnx.path.parent
    return {"onnx": c.onnx.path} | {f"onnx data {f.relative_to(folder)}": f for f in c.onnx.data}


def tensor(t: Tensor) -> dict[str, Any]:
    return {"dtype": t.dtype, "shape": list(t.shape)}


def inputs_of(graph: Graph, c: Component) -> dict[str, Any]:
    return {i.local: tensor(graph.tensors[i.wire]) for i in c.inputs}


def outputs_of(c: Component) -> dict[str, Any]:
    """By the component's own names, each with the wire it feeds."""
    return {o.local: tensor(o.tensor) | {"wire": o.tensor.name} for o in c.outputs}


def reads(graph: Graph, c: Component) -> dict[str, list[str]]:
    """Own input name → [who sends it, the wire]."""
    return {i.local: [role(graph.producers[i.wire]), i.wire] for i in c.inputs}


def senders(graph: Graph, c: Component) -> dict[str, str]:
    """Role → the step whose float32 outputs this component reads."""
    producers = dict.fromkeys(graph.producers[i.wire] for i in c.inputs)
    return {role(s): "inputs" if s is None else f"{s}.reference" for s in producers}


def role(producer: str | None) -> str:
    return "inputs" if producer is None else f"reference:{producer}"


def symbols_of(shapes: Iterable[Iterable[str | int]]) -> set[str]:
    return {s for shape in shapes for axis in shape for s in symbols(axis)}


def dims_of(names: Iterable[str], dims: Mapping[str, Dim]) -> dict[str, Dim]:
    """The dims of `names` and of every formula among them, in a stable order."""
    found: dict[str, Dim] = {}
    left = sorted(names)
    while left:
        name = left.pop()
        if name not in found:
            found[name] = dims[name]
            left += sorted(symbols(dims[name].formula or 0))
    return dict(sorted(found.items()))


def formulas(dims: Mapping[str, Dim]) -> dict[str, str]:
    return {n: d.formula for n, d in dims.items() if d.formula}


def profiles(dims: Mapping[str, Dim]) -> dict[str, dict[str, Any]]:
    """What sizes are drawn from, and samples are held against."""
    return {
        n: {"min": d.min, "opt": d.opt, "max": d.max, "formula": d.formula, "multiple": d.multiple}
        for n, d in dims.items()
    }
