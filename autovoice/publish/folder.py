"""The plain folder of a build: engines under their own names, and the manifest."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from autovoice.errors import StoreError
from autovoice.graph.wiring import Graph
from autovoice.plan.code import tool_version
from autovoice.plan.planner import Plan
from autovoice.plan.retries import backend_options, retry_of
from autovoice.plan.rules import engine_of
from autovoice.plan.rules.fallback import SUFFIX
from autovoice.plan.rules.gate_subject import by_graph, gate_subject
from autovoice.plan.rules.step import export_of
from autovoice.publish.contents import is_complete, is_in_place, parts_of, place, written_names
from autovoice.runtime.manifest import NAME, SCHEMA, dump, sealed
from autovoice.spec import Component, Precision
from autovoice.spec.registry import loader_of
from autovoice.store.artefacts import Record, Store
from autovoice.store.atomic import RANGES, parts_in, sweep_parts, write_atomically
from autovoice.store.switch import replacing, sweep

#: what the names of a build's files begin with, in the store
_OWN = "engine"


def publish(
    plan: Plan, records: Mapping[str, Record], store: Store, folder: Path, overrides: Sequence[str]
) -> list[str]:
    """Make `folder` hold exactly this build; returns what had to be written, nothing when all was in place.

    A new folder takes the old one's place as a whole: a reader has one build or the other, and so has whoever comes
    after a process that was killed. Files that no build wrote stay.
    """
    data = manifest_of(plan, records, store, overrides)
    parts = list(parts_of(data, plan, records))
    lock = f"folder-{folder.parent.name}-{folder.name}"
    folder = folder.resolve() if folder.is_symlink() else folder
    if is_complete(folder, data, parts) and not parts_in(folder.parent, folder.name):
        return []  # a folder that cannot be written will do
    try:
        with store.lock(lock):
            if is_complete(folder, data, parts):  # by now, or there is but something to take up
                sweep(folder, written_names)
                return []
            sweep_parts(folder)
            absent = [p.file for p in parts if not is_in_place(folder / p.file, p.digest)]
            with replacing(folder, written_names) as new:
                write_atomically(new / NAME, dump(data))  # first: it tells its files from the user's
                for part in parts:
                    place(part, None if part.file in absent else folder / part.file, store, new)
    except OSError as e:
        raise StoreError(f"{folder}: {e.strerror or e}", "paths.outputs=/another/folder") from e
    return [*absent, NAME]


def manifest_of(plan: Plan, records: Mapping[str, Record], store: Store, overrides: Sequence[str]) -> dict[str, Any]:
    """The manifest, as JSON data."""
    graph = plan.graph
    used = {t for c in graph.components for t in (*(i.wire for i in c.inputs), *(o.tensor.name for o in c.outputs))}
    tensors = {
        name: {"dtype": t.dtype, "shape": list(t.shape), "default": t.default}
        for name, t in graph.tensors.items()
        if name in used
    }
    tools = {name: version for p in plan.steps for name, version in p.inputs["tools"].items()}
    data = {
        "schema": SCHEMA,
        "autovoice": tool_version("autovoice"),
        "pipeline": graph.spec.pipeline.name,
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "overrides": list(overrides),
        "dims": {d.name: _dim(d) for d in graph.dims.values()},
        "tensors": tensors,
        "inputs": [t.name for t in graph.inputs],
        "outputs": list(graph.outputs),
        "components": [_component(graph, c, records) for c in graph.components],
        "end_to_end": _end_to_end(graph, records) if "end_to_end" in records else None,
        "latency": dict(records["latency"].result) if "latency" in records else None,
        "notes": {step: notes for step, r in records.items() if (notes := r.result.get("notes"))},
        "contract": dict(graph.spec.pipeline.contract),
        "tools": dict(sorted(tools.items())),
        "steps": {p.step.id: p.key for p in plan.steps},
    }
    return sealed(json.loads(json.dumps(data)))  # as it will be read


def _end_to_end(graph: Graph, records: Mapping[str, Record]) -> dict[str, Any]:
    """The result, and what of it was run as graphs, in place of engines that cannot run here."""
    graphs = [c.name for c in graph.components if by_graph(c)]
    return {**records["end_to_end"].result, "graphs": graphs}


def _component(graph: Graph, c: Component, records: Mapping[str, Record]) -> dict[str, Any]:
    build = records[engine_of(c)]
    verify = records.get(f"{c.name}.verify")
    references = dict.fromkeys(records[f"{p.name}.reference"].result["from"] for p in c.parts)
    return {
        "name": c.name,
        **_engine(c.name, c, build),
        "on_mismatch": _on_mismatch(c, records),
        "inputs": {i.local: i.wire for i in c.inputs},
        "outputs": {o.local: {"wire": o.tensor.name} for o in c.outputs},
        "precision": {
            "asked": c.precision.name,
            "type": _used(c, build).type,
            "delivered": build.result["delivered"],
            "kept_float32": asdict(c.precision.keep | c.keep),
            "used": _used(c, build).name,
            **({"given": list(c.prequantized)} if c.prequantized else {}),
        },
        **_parity(c, verify),
        "reference": " and ".join(references),
        "source": None if c.members else _source(c, records),
        "members": {m.name: _source(m, records) for m in c.members},
        "calibration": _calibration(c, records) if c.quantized else None,
        "race": _race(c, records) if f"{c.name}.race" in records else None,
    }


def _source(c: Component, records: Mapping[str, Record]) -> dict[str, Any]:
    """What it was exported from."""
    export = records[export_of(c)]
    source: dict[str, Any] = {"files": dict(export.inputs["files"])}
    if c.model is not None:
        source |= {"target": c.model.path, "kwargs": dict(c.model.kwargs), "weights": export.result["weights"]}
    return source


def _on_mismatch(c: Component, records: Mapping[str, Record]) -> dict[str, Any]:
    """What to do where the engine does not fit the machine that loads it, and what stands by for that."""
    stand_in = c.stand_in
    if stand_in is None:
        return {"policy": c.on_mismatch, "fallback": None}
    build, verify = records[f"{c.name}.build{SUFFIX}"], records.get(f"{c.name}.verify{SUFFIX}")
    fallback = {
        **_engine(f"{c.name}.fallback", stand_in, build),
        "precision": stand_in.precision.name,
        "delivered": build.result["delivered"],
        **_parity(stand_in, verify),
    }
    return {"policy": c.on_mismatch, "fallback": fallback}


def _parity(c: Component, verify: Record | None) -> dict[str, Any]:
    """What it was held against, and what of it: the engine, or the graph that the engine was made from."""
    one = gate_subject(c)
    if verify is None or one is None:
        return {"parity": None, "parity_of": None, "gates": None}
    return {"parity": verify.result["parity"], "parity_of": one.description, "gates": verify.result["gates"]}


def _engine(name: str, c: Component, build: Record) -> dict[str, Any]:
    """The files of an engine under the names they have in the folder, and what loads them."""
    engine = build.result["engine"]
    return {
        "file": name + Path(engine).suffix,
        "sha256": build.files[engine].sha256,
        "size": build.files[engine].size,
        "beside": {name + n.removeprefix(_OWN): build.files[n].sha256 for n in build.result["beside"]},
        "backend": {
            "name": c.backend.name,
            "loader": loader_of(c.backend.target),
            "options": {**c.backend.options, **backend_options(build.result), **c.backend.session},
            "after_crash": retry.crash if (retry := retry_of(build.result)) else None,
            "environment": build.inputs["fields"].get("environment"),
        },
    }


def _used(c: Component, build: Record) -> Precision:
    """The precision of the engine: what was asked, or the higher one where that is faster or the policy says so."""
    higher = c.higher
    if higher is not None and build.result.get("chosen") == higher.name:
        return higher
    return c.settled.precision


def _calibration(c: Component, records: Mapping[str, Record]) -> dict[str, Any]:
    """Where the scales came from, and which nodes they were used for."""
    if f"{c.name}.ranges" not in records:  # the tool calibrated for itself, while it built
        assert c.precision.implicit is not None
        return {"name": c.calibration.name, "method": {"default": c.precision.implicit.calibrator}}
    ranges = records[f"{c.name}.ranges"]
    lowered = records[f"{c.name}.lower"].result
    used = _used(c, records[engine_of(c)]).name == c.precision.name
    return {
        "name": c.calibration.name,
        "method": dict(c.calibration.method) if c.calibration.source is not None else None,
        "samples": ranges.result["samples"],
        "ranges": ranges.files[RANGES].sha256,
        "quantized": lowered.get("quantized", []) if used else [],
    }


def _race(c: Component, records: Mapping[str, Record]) -> dict[str, Any] | None:
    """How fast the build is beside one of higher precision; None where they are the same."""
    race = records[f"{c.name}.race"].result
    if race["ratio"] is None:
        return None
    return {k: race[k] for k in ("point", "rounds", "ms", "ratio", "chosen") if k in race}


def _dim(dim: Any) -> dict[str, Any]:
    return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(dim).items() if k not in ("name", "trace")}
