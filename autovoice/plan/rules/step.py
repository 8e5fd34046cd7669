"""A step, and the parts that its record is made of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autovoice.errors import CheckpointError, ConfigError, Fault
from autovoice.plan.rules.kinds import KINDS
from autovoice.plan.shards import shards_of
from autovoice.spec import Backend, Checkpoint, Component, EngineVariant, Keep, Target

if TYPE_CHECKING:
    from autovoice.spec.fields import (
        BackendField,
        CheckpointField,
        KeepField,
        LoaderField,
        ModuleField,
        QuantizeField,
        TargetField,
    )


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
    #: it measures time: nothing else may run meanwhile
    alone: bool = False
    #: fields to try it with after its native code has crashed, one after another; no part of its key
    after_crash: tuple[Mapping[str, Any], ...] = ()
    #: where the configuration names a file, if that is not at the component, under the file's name here; no part either
    places: Mapping[str, str] = field(default_factory=dict)


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
    return _step(step_id, c.name, kind, fields, needs or {}, files or {}, targets)


def pipeline_step(
    name: str,
    kind: str,
    fields: Mapping[str, Any],
    needs: Mapping[str, str] | None = None,
    files: Mapping[str, Path] | None = None,
    targets: tuple[str, ...] = (),
) -> Step:
    """A step that belongs to no component."""
    return _step(name, "", kind, fields, needs or {}, files or {}, targets)


def _step(
    step_id: str,
    component: str,
    kind: str,
    fields: Mapping[str, Any],
    needs: Mapping[str, str],
    files: Mapping[str, Path],
    targets: tuple[str, ...],
) -> Step:
    known, code = KINDS[kind], (f"autovoice.steps.{kind}.run", *targets)
    return Step(step_id, component, kind, fields, needs, files, code, known.tools, known.alone)


def engine_step(
    v: EngineVariant,
    kind: str,
    fields: Mapping[str, Any],
    needs: Mapping[str, str],
    files: Mapping[str, Path] | None = None,
    targets: tuple[str, ...] = (),
) -> Step:
    """A step of one engine of a component."""
    return component_step(v.component, kind, fields, needs, files, targets, name=f"{kind}{v.suffix}")


def plain_keep(keep: Keep) -> KeepField:
    return {"op_types": list(keep.op_types), "nodes": list(keep.nodes), "inputs": list(keep.inputs)}


def engine_of(c: Component) -> str:
    """The step that holds the engine to use: where the slower of two builds is dropped, that choice."""
    return c.primary.step("race" if c.baseline and c.only_if_faster else "build")


def export_of(c: Component) -> str:
    """The step that holds the component as a float32 ONNX file."""
    return f"{c.name}.{'fuse' if c.members else 'export'}"


def target(t: Target) -> TargetField:
    return {"target": t.path, "kwargs": dict(t.kwargs)}


def backend(b: Backend) -> BackendField:
    """What makes an engine."""
    return {"name": b.name, "target": b.target, "options": dict(b.options)}


def loader(b: Backend) -> LoaderField:
    """What loads an engine."""
    made: LoaderField = {"name": b.name, "target": b.target, "options": dict(b.options)}
    if b.session:
        made["session"] = dict(b.session)
    return made


def policy(c: Component | EngineVariant) -> QuantizeField:
    """What is quantized on its backend, as plain data."""
    assert c.quantize is not None
    q = c.quantize.on(c.backend.name)
    return {
        "op_types": list(q.op_types),
        "include": list(q.include),
        "exclude": list(q.exclude),
        "first": q.first,
        "last": q.last,
    }


def model(c: Component) -> ModuleField:
    assert c.model is not None
    return {"model": target(c.model), "checkpoint": _checkpoint(c.checkpoint), "seed": c.seed}


def _checkpoint(c: Checkpoint | None) -> CheckpointField | None:
    return None if c is None else {"key": c.key, "prefix": c.prefix, "strict": c.strict}


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
