"""The built engine against the float32 reference at every point; below its gate it is a failure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from autovoice.backends.base import on_host, session_of
from autovoice.errors import GateError
from autovoice.files import RECORD
from autovoice.measure.audio import audio_distances, shortest
from autovoice.measure.parity import compare, misses, pooled_cosine
from autovoice.spec import ERRORS
from autovoice.steps.context import Context
from autovoice.steps.points import POINTS, feeds_at, load_point


def run(context: Context) -> dict[str, Any]:
    """Parity of each output at each point. Raises GateError with the worst tensor and its shape."""
    fields = context.fields
    report: dict[str, Any] = {}
    audio = fields["audio"] if trained(context.needs) else {}
    shapes = {o["wire"]: o["shape"] for o in fields["outputs"].values()}
    with session_of(fields["backend"], context.needs["build"], fields["outputs"]) as session:
        for point in POINTS:
            got = on_host(session.run(feeds_at(point, fields["reads"], context.needs)))
            wires = {fields["outputs"][name]["wire"]: value for name, value in got.items()}
            report[point] = parities(wires, _reference(context, point), point, shapes, audio)
    gates = fields.get("gates_of", {}).get(_chosen(context.needs["build"]), fields["gates"])
    judge(report, gates)
    untrained = sorted(fields["audio"].keys() - audio.keys())
    return {"parity": report, "gates": judged(gates, report), "untrained": untrained}


def _reference(context: Context, point: str) -> dict[str, np.ndarray]:
    """What the component is held against; of one that is fused, every output by the member that makes it."""
    made: Mapping[str, str] = context.fields.get("references", {})
    if not made:
        return load_point(context.needs["reference"], point)
    loaded = {role: load_point(context.needs[role], point) for role in set(made.values())}
    return {wire: loaded[role][wire] for wire, role in made.items()}


def _chosen(folder: Path) -> str | None:
    """The precision of an engine that was chosen among two; None of one that was simply built."""
    chosen: str | None = json.loads((folder / RECORD).read_bytes())["result"].get("chosen")
    return chosen


def judged(gates: Mapping[str, float], report: Mapping[str, Any]) -> dict[str, float]:
    """The gates that something was held against."""
    there = {m for wires in report.values() for p in wires.values() for m in p}
    return {m: t for m, t in gates.items() if m in there}


def trained(needs: Mapping[str, Path]) -> bool:
    """True when every export among `needs` has weights of its own, not seeded ones, or has none at all."""
    for role, folder in needs.items():
        if role.startswith("export:"):
            made = json.loads((folder / RECORD).read_bytes())["result"]
            weights = made.get("weights", {"checkpoint": "inside the file"})
            if made.get("parameters") and ("checkpoint" not in weights or weights.get("missing")):
                return False
    return True


def parities(
    got: Mapping[str, np.ndarray],
    reference: Mapping[str, np.ndarray],
    point: str,
    shapes: Mapping[str, Any] | None = None,
    audio: Mapping[str, int] | None = None,
) -> dict[str, dict[str, Any]]:
    """{wire: {max_abs, relative_l2, cosine, snr_db, shape, …}}. Raises GateError on shape, dtype, or not finite.

    With `shapes` as declared also pooled_cosine, and, of the waveforms that `audio` names with their sample rates,
    the distances between them.
    """
    found = {}
    for wire, value in got.items():
        try:
            found[wire] = asdict(compare(value, reference[wire])) | {"shape": list(value.shape)}
        except ValueError as e:
            raise GateError(f"'{wire}' at {point}: {e}", "the engine does not compute what the module does") from e
        pooled = pooled_cosine(value, reference[wire], shapes[wire]) if shapes else None
        if pooled is not None:
            found[wire]["pooled_cosine"] = pooled
        if audio and wire in audio and value.shape[-1] >= shortest(audio[wire]):
            found[wire] |= audio_distances(value, reference[wire], audio[wire])
    return found


def judge(report: Mapping[str, Mapping[str, Mapping[str, Any]]], gates: Mapping[str, float]) -> None:
    """Raise GateError for the metric, tensor and point that miss their gate by most."""
    for metric, threshold in gates.items():
        if not any(metric in p for wires in report.values() for p in wires.values()):
            continue  # no tensor here has it: not pooled, or no waveform of trained weights
        point, wire, parity = worst(report, metric)
        if misses(parity, {metric: threshold}):
            sign = "≤" if metric in ERRORS else "≥"
            raise GateError(
                f"{metric} {parity[metric]:.6g} of '{wire}' at {point} {parity['shape']}, "
                f"the gate asks {sign} {threshold}",
                "keep sensitive nodes in float32 (++component.<name>.keep.op_types=[…]; in int8 task=search finds "
                "them), choose a higher precision, "
                f"or set gate.component.{metric} / gate.end_to_end.{metric}",
            )


def worst(report: Mapping[str, Mapping[str, Mapping[str, Any]]], metric: str) -> tuple[str, str, Mapping[str, Any]]:
    """(point, wire, parity) where a metric is worst."""
    entries = [(point, wire, p) for point, wires in report.items() for wire, p in wires.items() if metric in p]
    pick = max if metric in ERRORS else min
    return pick(entries, key=lambda e: e[2][metric])
