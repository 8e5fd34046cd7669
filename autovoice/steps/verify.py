"""The built engine against the float32 reference at every point; below its gate it is a failure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from autovoice.backends.base import backend_from_target
from autovoice.errors import GateError
from autovoice.measure.parity import ERRORS, compare, misses
from autovoice.steps.context import Context
from autovoice.steps.points import POINTS, feeds_at, load_point


def run(context: Context) -> dict[str, Any]:
    """Parity of each output at each point. Raises GateError with the worst tensor and its shape."""
    fields = context.fields
    backend = backend_from_target(fields["backend"]["target"], fields["backend"]["options"])
    engine = context.needs["build"] / f"engine{backend.suffix}"
    report: dict[str, Any] = {}
    with backend.session_from_engine(engine, tuple(fields["outputs"])) as session:
        for point in POINTS:
            got = session.run(feeds_at(point, fields["reads"], context.needs))
            wires = {fields["outputs"][name]["wire"]: value for name, value in got.items()}
            report[point] = parities(wires, load_point(context.needs["reference"], point), point)
    judge(report, fields["gates"])
    return {"parity": report, "gates": fields["gates"]}


def parities(
    got: Mapping[str, np.ndarray], reference: Mapping[str, np.ndarray], point: str
) -> dict[str, dict[str, Any]]:
    """{wire: {max_abs, relative_l2, cosine, snr_db, shape}}. Raises GateError on shape, dtype, or not finite."""
    found = {}
    for wire, value in got.items():
        try:
            found[wire] = asdict(compare(value, reference[wire])) | {"shape": list(value.shape)}
        except ValueError as e:
            raise GateError(f"'{wire}' at {point}: {e}", "the engine does not compute what the module does") from e
    return found


def judge(report: Mapping[str, Mapping[str, Mapping[str, Any]]], gates: Mapping[str, float]) -> None:
    """Raise GateError for the metric, tensor and point that miss their gate by most."""
    for metric, threshold in gates.items():
        point, wire, parity = worst(report, metric)
        if misses(parity, {metric: threshold}):
            sign = "≤" if metric in ERRORS else "≥"
            raise GateError(
                f"{metric} {parity[metric]:.6g} of '{wire}' at {point} {parity['shape']}, "
                f"the gate asks {sign} {threshold}",
                "keep sensitive nodes in float32 (component.<name>.keep.op_types=[…]), choose a higher precision, "
                f"or set gate.component.{metric} / gate.end_to_end.{metric}",
            )


def worst(report: Mapping[str, Mapping[str, Mapping[str, Any]]], metric: str) -> tuple[str, str, Mapping[str, Any]]:
    """(point, wire, parity) where a metric is worst."""
    entries = [(point, wire, p) for point, wires in report.items() for wire, p in wires.items()]
    pick = max if metric in ERRORS else min
    return pick(entries, key=lambda e: e[2][metric])
