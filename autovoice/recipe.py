"""What steps a graph needs, each as a pure record: the parameters it reads, what it needs, whose code it is.

    inputs ─────────────► reference ──────────────┐
                          (upstream references)   │
    export ──► lower ──► build ─────────────────► verify        per component
                           └────────────────────► end_to_end    once

A step's `run` function is handed these fields and nothing else, so what a key covers and what a step reads
cannot drift apart.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from autovoice.expr import symbols
from autovoice.graph import Graph
from autovoice.spec import Component, Dim, Target, Tensor

#: distributions whose version a kind of step depends on; each is imported in the worker, never here
TOOLS = {
    "inputs": ("numpy",),
    "export": ("torch", "onnx", "onnxscript", "onnxslim"),
    "import_onnx": ("onnx", "onnxslim"),
    "reference": ("torch", "numpy"),
    "reference_onnx": ("onnxruntime", "numpy"),
    "lower": ("onnx", "onnxruntime"),
    "build": ("onnx",),
    "verify": ("numpy",),
    "end_to_end": ("numpy",),
}


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


def steps_of(graph: Graph) -> tuple[Step, ...]:
    """All steps of a graph, every step after the steps it needs."""
    steps = [_inputs(graph)]
    for component in graph.components:
        steps += _component(graph, component)
    steps.append(_end_to_end(graph))
    return tuple(steps)


def _component(graph: Graph, c: Component) -> list[Step]:
    source = "export" if c.model else "import_onnx"
    made = f"{c.name}.export"
    fields = {
        "precision": {"name": c.precision.name, "type": c.precision.type},
        "lowering": _target(c.precision.lowering),
        "keep": {k: list(v) for k, v in asdict(c.precision.keep | c.keep).items()},
        "own_keep": {k: list(v) for k, v in asdict(c.keep).items()},
    }
    lower = _step(c, "lower", fields, {"export": made}, targets=(c.precision.lowering.path,))
    backend = {"name": c.backend.name, "target": c.backend.target, "options": dict(c.backend.options)}
    fields = {
        "backend": backend,
        "precision": {"name": c.precision.name, "type": c.precision.type, "scope": c.precision.scope},
        "keep": fields["keep"],
        "inputs": _inputs_of(graph, c),
        "outputs": _outputs_of(c),
    }
    build = _step(c, "build", fields, {"lower": lower.id}, targets=(c.backend.target,))
    return [_source(graph, c, source), _reference(graph, c), lower, build, _verify(graph, c, backend)]


def _source(graph: Graph, c: Component, kind: str) -> Step:
    """The component as an ONNX file: exported from its module, or its own file, checked."""
    shapes = [i["shape"] for i in _inputs_of(graph, c).values()] + [o["shape"] for o in _outputs_of(c).values()]
    used = _closed({s for shape in shapes for axis in shape for s in symbols(axis)}, graph.dims)
    fields = {
        "inputs": _inputs_of(graph, c),
        "outputs": _outputs_of(c),
        "output_order": [o.local for o in c.outputs],
        "export": asdict(c.export),
        "formulas": {n: d.formula for n, d in used.items() if d.formula},
        "trace": {n: d.trace for n, d in used.items()},
    }
    if kind == "import_onnx":
        return _step(c, kind, fields, files=_onnx_files(c), name="export")
    return _step(c, kind, fields | _model(c), files=_weights(c), targets=_model_targets(c))


def _reference(graph: Graph, c: Component) -> Step:
    """The float32 outputs of the module itself, on what its producers' modules really send."""
    used = _closed({s for t in _inputs_of(graph, c).values() for a in t["shape"] for s in symbols(a)}, graph.dims)
    used |= _closed({s for o in c.outputs for a in o.tensor.shape for s in symbols(a)}, graph.dims)
    fields: dict[str, Any] = {
        "reads": _reads(graph, c),
        "inputs": _inputs_of(graph, c),
        "outputs": _outputs_of(c),
        "output_order": [o.local for o in c.outputs],
        "formulas": {n: d.formula for n, d in used.items() if d.formula},
    }
    needs = _needs(graph, c)
    if c.onnx is not None:
        return _step(c, "reference_onnx", fields, needs, _onnx_files(c), name="reference")
    return _step(c, "reference", fields | _model(c), needs, files=_weights(c), targets=_model_targets(c))


def _verify(graph: Graph, c: Component, backend: Mapping[str, Any]) -> Step:
    gates = {metric: by[c.precision.name] for metric, by in c.gate.component.items()}
    fields = {"backend": backend, "reads": _reads(graph, c), "outputs": _outputs_of(c), "gates": gates}
    needs = {"build": f"{c.name}.build", "reference": f"{c.name}.reference", **_needs(graph, c)}
    return _step(c, "verify", fields, needs, targets=(c.backend.target,))


def _inputs(graph: Graph) -> Step:
    """Seeded external inputs at min, opt, max and between: all that are declared, whatever part is built."""
    declared = graph.spec.pipeline.inputs
    tensors = {t.name: _tensor(t) | {"default": t.default, "example": t.example} for t in declared}
    used = _closed({s for t in declared for a in t.shape for s in symbols(a)}, graph.dims)
    dims = {
        n: {"min": d.min, "opt": d.opt, "max": d.max, "formula": d.formula, "multiple": d.multiple}
        for n, d in used.items()
    }
    fields = {"tensors": tensors, "dims": dims, "seed": 0}
    return Step("inputs", "", "inputs", fields, targets=_own("inputs"), tools=TOOLS["inputs"])


def _end_to_end(graph: Graph) -> Step:
    """The whole built pipeline against the whole float32 reference."""
    components = {
        c.name: {
            "backend": {
                "name": c.backend.name,
                "target": c.backend.target,
                "options": dict(c.backend.options),
            },
            "inputs": {i.local: i.wire for i in c.inputs},
            "outputs": _outputs_of(c),
        }
        for c in graph.components
    }
    # the loosest threshold of the precisions in use: the weakest component bounds the whole
    gates: dict[str, float] = {}
    for c in graph.components:
        for metric, by in c.gate.end_to_end.items():
            pick = max if metric in ("relative_l2", "max_abs") else min
            gates[metric] = pick(gates.get(metric, by[c.precision.name]), by[c.precision.name])
    outputs = {o.tensor.name: c.name for c in graph.components for o in c.outputs if o.tensor.name in graph.outputs}
    needs = {"inputs": "inputs"}
    needs |= {f"build:{c.name}": f"{c.name}.build" for c in graph.components}
    needs |= {f"reference:{name}": f"{name}.reference" for name in sorted(set(outputs.values()))}
    fields = {"components": components, "outputs": outputs, "gates": gates}
    targets = (*_own("end_to_end"), *sorted({c.backend.target for c in graph.components}))
    return Step("end_to_end", "", "end_to_end", fields, needs, {}, targets, TOOLS["end_to_end"])


# -- the parts records are made of ----------------------------------------------------------------


def _step(
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
    return Step(step_id, c.name, kind, fields, needs or {}, files or {}, (*_own(kind), *targets), TOOLS[kind])


def _own(kind: str) -> tuple[str, ...]:
    return (f"autovoice.steps.{kind}.run",)


def _target(t: Target) -> dict[str, Any]:
    return {"target": t.path, "kwargs": dict(t.kwargs)}


def _model(c: Component) -> dict[str, Any]:
    assert c.model is not None
    checkpoint = c.checkpoint and {k: v for k, v in asdict(c.checkpoint).items() if k != "path"}
    return {"model": _target(c.model), "checkpoint": checkpoint, "seed": c.seed}


def _model_targets(c: Component) -> tuple[str, ...]:
    """The code of the module, and of the objects that its arguments make in turn."""
    assert c.model is not None
    return (c.model.path, *_nested_targets(dict(c.model.kwargs)))


def _nested_targets(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        if isinstance(value.get("_target_"), str):
            yield value["_target_"]
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from _nested_targets(item)


def _weights(c: Component) -> dict[str, Path]:
    return {"checkpoint": c.checkpoint.path} if c.checkpoint else {}


def _onnx_files(c: Component) -> dict[str, Path]:
    assert c.onnx is not None
    folder = c.onnx.path.parent
    return {"onnx": c.onnx.path} | {f"onnx data {f.relative_to(folder)}": f for f in c.onnx.data}


def _tensor(t: Tensor) -> dict[str, Any]:
    return {"dtype": t.dtype, "shape": list(t.shape)}


def _inputs_of(graph: Graph, c: Component) -> dict[str, Any]:
    return {i.local: _tensor(graph.tensors[i.wire]) for i in c.inputs}


def _outputs_of(c: Component) -> dict[str, Any]:
    """By the component's own names, each with the wire it feeds."""
    return {o.local: _tensor(o.tensor) | {"wire": o.tensor.name} for o in c.outputs}


def _reads(graph: Graph, c: Component) -> dict[str, list[str]]:
    """Own input name → [who sends it, the wire]."""
    return {i.local: [_role(graph.producers[i.wire]), i.wire] for i in c.inputs}


def _needs(graph: Graph, c: Component) -> dict[str, str]:
    senders = dict.fromkeys(graph.producers[i.wire] for i in c.inputs)
    return {_role(s): "inputs" if s is None else f"{s}.reference" for s in senders}


def _role(producer: str | None) -> str:
    return "inputs" if producer is None else f"reference:{producer}"


def _closed(names: Iterable[str], dims: Mapping[str, Dim]) -> dict[str, Dim]:
    """The dims of `names` and of every formula among them, in a stable order."""
    found: dict[str, Dim] = {}
    left = sorted(names)
    while left:
        name = left.pop()
        if name not in found:
            found[name] = dims[name]
            left += sorted(symbols(dims[name].formula or 0))
    return dict(sorted(found.items()))
