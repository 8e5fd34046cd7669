"""The manifest of a build, written from its account. What it may hold is checked where it is read."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from autovoice.graph.wiring import Graph
from autovoice.plan.code import tool_version
from autovoice.publish.account import BuildAccount, ComponentAccount, EngineAccount
from autovoice.runtime.manifest import SCHEMA, sealed
from autovoice.spec import Component, Dim
from autovoice.spec.registry import loader_of
from autovoice.store.atomic import RANGES


def manifest_of(account: BuildAccount, overrides: Sequence[str]) -> dict[str, Any]:
    """The manifest, as JSON data."""
    graph = account.graph
    data = {
        "schema": SCHEMA,
        "autovoice": tool_version("autovoice"),
        "pipeline": graph.spec.pipeline.name,
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "overrides": list(overrides),
        "dims": {d.name: _dim(d) for d in graph.dims.values()},
        "tensors": dict(_tensors(graph)),
        "inputs": [t.name for t in graph.inputs],
        "outputs": list(graph.outputs),
        "components": [_component(c) for c in account.components],
        "end_to_end": {**account.end_to_end.result, "graphs": account.by_graph} if account.end_to_end else None,
        "latency": dict(account.latency.result) if account.latency else None,
        "notes": account.notes,
        "contract": dict(graph.spec.pipeline.contract),
        "tools": dict(sorted(account.tools.items())),
        "steps": account.steps,
    }
    return sealed(json.loads(json.dumps(data)))  # as it will be read


def _tensors(graph: Graph) -> Iterator[tuple[str, dict[str, Any]]]:
    used = {t for c in graph.components for t in (*(i.wire for i in c.inputs), *(o.tensor.name for o in c.outputs))}
    for name, t in graph.tensors.items():
        if name in used:
            yield name, {"dtype": t.dtype, "shape": list(t.shape), "default": t.default}


def _component(account: ComponentAccount) -> dict[str, Any]:
    c, engine = account.component, account.engine
    return {
        "name": c.name,
        **_engine(engine),
        "on_mismatch": {"policy": c.on_mismatch, "fallback": _fallback(account.fallback)},
        "inputs": {i.local: i.wire for i in c.inputs},
        "outputs": {o.local: {"wire": o.tensor.name} for o in c.outputs},
        "precision": {
            "asked": c.precision.name,
            "type": engine.variant.precision.type,
            "delivered": engine.delivered,
            "kept_float32": asdict(c.precision.keep | c.keep),
            "used": engine.variant.precision.name,
            **({"given": list(c.prequantized)} if c.prequantized else {}),
        },
        **_parity(engine),
        "reference": " and ".join(dict.fromkeys(r.result["from"] for r in account.references.values())),
        "source": None if c.members else _source(c, account),
        "members": {m.name: _source(m, account) for m in c.members},
        "calibration": _calibration(account) if c.quantized else None,
        "race": _race(account),
    }


def _engine(engine: EngineAccount) -> dict[str, Any]:
    """The files of an engine under the names they have in the folder, and what loads them."""
    files, backend = engine.record.files, engine.variant.backend
    return {
        "file": engine.file,
        "sha256": files[engine.stored].sha256,
        "size": engine.size,
        "beside": {name: files[stored].sha256 for stored, name in engine.beside.items()},
        "backend": {
            "name": backend.name,
            "loader": loader_of(backend.target),
            "options": engine.options,
            "after_crash": engine.retry and engine.retry.crash,
            "environment": engine.environment,
        },
    }


def _fallback(engine: EngineAccount | None) -> dict[str, Any] | None:
    if engine is None:
        return None
    precision = engine.variant.precision.name
    return {**_engine(engine), "precision": precision, "delivered": engine.delivered, **_parity(engine)}


def _parity(engine: EngineAccount) -> dict[str, Any]:
    """How far the engine, or the graph that it was made from, is from the reference."""
    if engine.verify is None or engine.subject is None:
        return {"parity": None, "parity_of": None, "gates": None}
    result = engine.verify.result
    missed = {"missed": result["missed"]} if result.get("missed") else {}
    of = engine.subject.description
    return {"parity": result["parity"], "parity_of": of, "gates": result["gates"], **missed}


def _source(part: Component, account: ComponentAccount) -> dict[str, Any]:
    """What a part was exported from."""
    export = account.exports[part.name]
    source: dict[str, Any] = {"files": dict(export.inputs["files"])}
    if part.model is not None:
        source |= {"target": part.model.path, "kwargs": dict(part.model.kwargs), "weights": export.result["weights"]}
    return source


def _calibration(account: ComponentAccount) -> dict[str, Any]:
    """Where the scales came from, and which nodes they were used for."""
    c = account.component
    if account.ranges is None:  # the tool calibrated for itself, while it built
        assert c.precision.implicit is not None
        return {"name": c.calibration.name, "method": {"default": c.precision.implicit.calibrator}}
    used = account.lower is not None and account.engine.variant.precision.name == c.precision.name
    return {
        "name": c.calibration.name,
        "method": dict(c.calibration.method) if c.calibration.source is not None else None,
        "samples": account.ranges.result["samples"],
        "ranges": account.ranges.files[RANGES].sha256,
        "quantized": account.lower.result.get("quantized", []) if used and account.lower else [],
    }


def _race(account: ComponentAccount) -> Mapping[str, Any] | None:
    """How fast the engine is beside its baseline; None where they are the same."""
    if account.race is None or account.ratio is None:
        return None
    result = account.race.result
    return {k: result[k] for k in ("point", "rounds", "ms", "ratio", "chosen") if k in result}


def _dim(dim: Dim) -> dict[str, Any]:
    return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(dim).items() if k not in ("name", "trace")}
