"""The YAML of a studied network: a pipeline, its component, and a calibration for INT8."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from autovoice.scaffold.study import Span, Studied
from autovoice.scaffold.subject import Subject, identifier

#: sizes up to which dims are traced where nothing is said
_TRACED = 8


def files_of(subject: Subject, studied: Studied, tree: Path) -> dict[Path, str]:
    """{file: text}, to be written below `tree`."""
    name = subject.name
    return {
        tree / "pipeline" / f"{name}.yaml": "\n".join(_pipeline(subject, studied, tree)) + "\n",
        tree / "component" / name / "default.yaml": "\n".join(_component(subject, studied, tree)) + "\n",
        tree / "calibration" / f"{name}.yaml": "\n".join(_calibration(subject, studied, tree)) + "\n",
    }


def command(subject: Subject, tree: Path) -> str:
    return f"autovoice --config-dir {tree} pipeline={subject.name}"


def _pipeline(subject: Subject, studied: Studied, tree: Path) -> Iterator[str]:
    yield from ("# @package _global_", f"# {command(subject, tree)}", "#")
    yield "# Written by task=scaffold. Types, axes and the least sizes were found by running the network;"
    yield "# `decide` marks what it cannot know."
    yield from ("defaults:", f"  - /component/{subject.name}: default", "")
    if studied.dims:
        yield "dims:"
        yield from (f"  {n}: {_span(s)}{_about(n, s)}" for n, s in studied.dims.items())
        yield ""
    yield from ("pipeline:", f"  name: {subject.name}", "  inputs:")
    wires, _ = wires_of(studied)
    for local, tensor in studied.inputs.items():
        yield from _input(subject, studied, local, wires[local], tensor)


def _span(s: Span) -> str:
    multiple = f", multiple: {s.multiple}" if s.multiple > 1 else ""
    trace = f", trace: {s.opt}" if s.min > _TRACED else ""  # exporters and checks run it at this size
    return f"{{min: {s.min}, opt: {s.opt}, max: {s.max}{multiple}{trace}}}"


def _about(name: str, s: Span) -> str:
    if s.max <= 4:
        return "    # decide: how many at a time"
    least = f"; less than {s.min} does not run" if s.min > 1 else ""
    return f"    # decide: opt is what engines are tuned for, max what they take{least}"


def _input(subject: Subject, studied: Studied, local: str, wire: str, tensor: Mapping[str, Any]) -> Iterator[str]:
    head = f"    {wire}: {{dtype: {tensor['dtype']}, shape: {_flow(tensor['shape'])}"
    if tensor["dtype"] == "bool":
        yield f"{head}}}"
    elif tensor["dtype"].startswith("float"):
        yield f"{head}, example: {{normal: [0, 1]}}}}    # decide: noise, unless real data are given"
    elif local in subject.tables:
        yield f"{head}, example: {{integers: [0, {subject.tables[local] - 1}]}}}}    # the rows of its table"
    else:
        low, high = sorted((0, studied.whole))
        yield f"{head}, example: {{integers: [{low}, {high}]}}}}    # decide: which numbers mean something here"


def _component(subject: Subject, studied: Studied, tree: Path) -> Iterator[str]:
    yield f"# {command(subject, tree)} targets=[{subject.name}]"
    yield from (f"{key}: {_flow(value)}" for key, value in subject.node.items())
    if "model" in subject.node:
        yield "checkpoint: null    # decide: {path: weights.safetensors}; without one the weights are seeded"
    wires, made = wires_of(studied)
    plain = all(local == wire for local, wire in wires.items())
    yield f"inputs: {_flow(list(wires) if plain else wires)}"
    yield "outputs:"
    for local, tensor in studied.outputs.items():
        renamed = f"onnx_name: {_flow(local)}, " if made[local] != local else ""
        yield f"  {made[local]}: {{{renamed}dtype: {tensor['dtype']}, shape: {_flow(tensor['shape'])}}}"
    yield "precision: ${precision}"


def _calibration(subject: Subject, studied: Studied, tree: Path) -> Iterator[str]:
    yield f"# {command(subject, tree)} precision=int8 calibration={subject.name}"
    yield "#"
    yield f"# {subject.name}.npz holds real inputs, recorded as `{subject.name}/<input>` (axis 0 counts samples) or,"
    yield f"# where their lengths differ, as `{subject.name}/<input>/00000`, one entry a sample:"
    for local, tensor in studied.inputs.items():
        yield f"#   {subject.name}/{local}: {tensor['dtype']} {_flow(tensor['shape'])}"
    yield from (
        "defaults: [npz, _self_]",
        f"name: {subject.name}",
        f"files: {subject.name}.npz    # decide: where it is",
    )


def _flow(value: Any) -> str:
    """The value in one line of YAML."""
    if isinstance(value, list):
        return f"[{', '.join(_flow(v) for v in value)}]"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{_flow(str(k))}: {_flow(v)}' for k, v in value.items())}}}"
    if not isinstance(value, str):
        return json.dumps(value)
    text = yaml.safe_dump(value, default_flow_style=True, width=10**6).removesuffix("\n...\n").strip()
    return json.dumps(value) if any(c in value for c in ",[]{}:#*&") else text


def wires_of(studied: Studied) -> tuple[dict[str, str], dict[str, str]]:
    """{local name: wire} of inputs and of outputs: names of this configuration, no two alike."""
    taken: set[str] = set()

    def wire(local: str) -> str:
        name = identifier(local)
        while name in taken:
            name = f"{name}_out"
        taken.add(name)
        return name

    return {n: wire(n) for n in studied.inputs}, {n: wire(n) for n in studied.outputs}
