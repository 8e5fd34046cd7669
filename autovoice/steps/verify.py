"""The built engine against the float32 reference at every point; below its gate it is a failure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from autovoice.backends.base import on_host
from autovoice.backends.loading import session_of
from autovoice.errors import GateError
from autovoice.measure.advice import Advice, component_advice
from autovoice.measure.audio import audio_distances, shortest
from autovoice.measure.gates import Report, judged_value, meaningless, misses, worst
from autovoice.measure.parity import compare, largest_input, pooled_axes, pooled_cosine
from autovoice.measure.points import POINTS, feeds_at
from autovoice.spec import AUDIO_METRICS, ERRORS
from autovoice.spec.ports import by_wire
from autovoice.steps.context import Context
from autovoice.store.atomic import RECORD

if TYPE_CHECKING:
    from autovoice.steps.fields import VerifyFields


def run(context: Context[VerifyFields]) -> dict[str, Any]:
    """Parity of each output at each point. Raises GateError with the worst tensor and its shape."""
    fields = context.fields
    report: dict[str, Any] = {}
    audio = fields["audio"] if trained(context.needs) else {}
    shapes = {o["wire"]: o["shape"] for o in fields["outputs"].values()}
    chosen = _chosen(context.needs["build"])
    about, gates = fields["about"], fields["gates"]
    if chosen is not None and "about_of" in fields:
        about, gates = fields["about_of"].get(chosen, about), fields["gates_of"].get(chosen, gates)
    with session_of(fields["backend"], context.needs["build"], fields["outputs"]) as session:
        for point in POINTS:
            feeds = feeds_at(point, fields["reads"], context.needs)
            known = Known(shapes, audio, largest_input(feeds.values()), about["type"] == "float16")
            got = on_host(session.run(feeds))
            reference = by_wire(fields["references"], feeds_at(point, fields["references"], context.needs))
            report[point] = parities(by_wire(fields["outputs"], got), reference, point, known)
    missed = judge(report, gates, component_advice(about), fields.get("enforce", True))
    untrained = sorted(fields["audio"].keys() - audio.keys())
    return {
        "parity": report,
        "gates": judged(gates, report),
        "missed": missed,
        "untrained": untrained,
        "notes": [*not_met(missed), *notes_on(gates, report)],
    }


def _chosen(folder: Path) -> str | None:
    """The precision of an engine that was chosen among two; None of one that was simply built."""
    chosen: str | None = json.loads((folder / RECORD).read_bytes())["result"].get("chosen")
    return chosen


def judged(gates: Mapping[str, float], report: Mapping[str, Any]) -> dict[str, float]:
    """The gates that something was held against."""
    return {m: t for m, t in gates.items() if worst(report, m) is not None}


def trained(needs: Mapping[str, Path]) -> bool:
    """True when every export among `needs` has weights of its own, not seeded ones, or has none at all."""
    for role, folder in needs.items():
        if role.startswith("export:"):
            made = json.loads((folder / RECORD).read_bytes())["result"]
            weights = made.get("weights", {"checkpoint": "inside the file"})
            if made.get("parameters") and ("checkpoint" not in weights or weights.get("missing")):
                return False
    return True


@dataclass(frozen=True)
class Known:
    """What is known of wires beside their values: declared shapes, sample rates of waveforms, the largest input.

    `half`: something computes in float16.
    """

    shapes: Mapping[str, Any] = field(default_factory=dict)
    audio: Mapping[str, int] = field(default_factory=dict)
    scale: float = 0.0
    half: bool = False


def parities(
    got: Mapping[str, np.ndarray], reference: Mapping[str, np.ndarray], point: str, known: Known
) -> dict[str, dict[str, Any]]:
    """{wire: {max_abs, relative_l2, cosine, snr_db, shape, …}}. Raises GateError on shape, dtype, or not finite.

    With shapes as declared also pooled_cosine, and, of the waveforms whose sample rates are known, the distances
    between them. None: not meaningful there, and not judged.
    """
    found = {}
    for wire, value in got.items():
        try:
            parity = asdict(compare(value, reference[wire], known.scale))
        except ValueError as e:
            raise GateError(f"'{wire}' at {point}: {e}", _mismatch(value, known.half)) from e
        found[wire] = {m: v for m, v in parity.items() if m not in ("scaled_db", "equal") or v is not None}
        found[wire]["shape"] = list(value.shape)
        if wire in known.shapes and pooled_axes(known.shapes[wire], value.shape):
            found[wire]["pooled_cosine"] = pooled_cosine(value, reference[wire], known.shapes[wire])
        if wire in known.audio and value.shape[-1] >= shortest(known.audio[wire]):
            found[wire] |= audio_distances(value, reference[wire], known.audio[wire])
    return found


def _mismatch(value: np.ndarray, half: bool) -> str:
    if half and value.dtype.kind == "f" and not np.isfinite(value).all():
        return "float16 overflows beyond 65504: component.<name>.precision=fp32, or keep what overflows in float32"
    return "the engine does not compute what the module does"


def judge(report: Report, gates: Mapping[str, float], advice: Advice, enforce: bool = True) -> list[str]:
    """The gates that are missed, in a sentence each; with `enforce`, GateError for the first is raised instead."""
    missed = []
    for metric, threshold in gates.items():
        found = worst(report, metric)
        if found is None:
            continue  # no tensor here has it: not pooled, no waveform of trained weights, or not meaningful
        point, wire, parity = found
        if misses(parity, {metric: threshold}):
            sign = "≤" if metric in ERRORS else "≥"
            value = judged_value(parity, metric)
            assert value is not None
            scaled = ", as error against the largest input: the reference is zero" if parity[metric] is None else ""
            fact = f"{metric} {value:.6g} of '{wire}' at {point} {parity['shape']}{scaled}"
            missed.append(f"{fact}, the gate asks {sign} {threshold}")
            if enforce:
                raise GateError(missed[0], advice(report, metric, threshold))
    return missed


def not_met(missed: Iterable[str]) -> list[str]:
    """Notes of gates that are missed and not enforced."""
    return [f"gate not met: {fact}" for fact in missed]


_WHY = {"pooled_cosine": "its mean is rounding", **dict.fromkeys(AUDIO_METRICS, "the reference is silent")}


def notes_on(gates: Mapping[str, float], report: Report) -> list[str]:
    """What gates ask for and tensors cannot tell."""
    found: dict[tuple[str, str, str], list[str]] = {}
    for metric in gates:
        why = _WHY.get(metric, "the reference is zero, or rounding")
        for wire, points in meaningless(report, metric).items():
            found.setdefault((wire, ", ".join(points), why), []).append(metric)
    return [f"{', '.join(m)} of '{wire}' at {at}: not meaningful, {why}" for (wire, at, why), m in found.items()]
