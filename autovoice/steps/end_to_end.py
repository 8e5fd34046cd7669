"""All built engines in a row against all float32 modules in a row."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from autovoice.backends.base import Shared, naming, on_host, read_by, session_of
from autovoice.steps.context import Context
from autovoice.steps.points import POINTS, load_point
from autovoice.steps.verify import judge, judged, parities, trained


def run(context: Context) -> dict[str, Any]:
    """Parity of the pipeline's outputs at each point. Raises GateError."""
    fields = context.fields
    shapes = {o["wire"]: o["shape"] for c in fields["components"].values() for o in c["outputs"].values()}
    audio = fields["audio"] if trained(context.needs) else {}
    with Shared() as shared, ExitStack() as stack:
        sessions = []
        for name, c in fields["components"].items():
            loaded = session_of(c["backend"], context.needs[f"build:{name}"], c["outputs"], shared)
            sessions.append((name, c, stack.enter_context(loaded)))
        report = {}
        for point in POINTS:
            wires = load_point(context.needs["inputs"], point)
            for name, c, session in sessions:
                with naming(name):
                    got = session.run(read_by(session, {local: wires[wire] for local, wire in c["inputs"].items()}))
                wires |= {c["outputs"][local]["wire"]: value for local, value in got.items()}
            reference = {}
            for wire, name in fields["outputs"].items():
                reference[wire] = load_point(context.needs[f"reference:{name}"], point)[wire]
            report[point] = parities(on_host({w: wires[w] for w in reference}), reference, point, shapes, audio)
    judge(report, fields["gates"])
    untrained = sorted(fields["audio"].keys() - audio.keys())
    return {"parity": report, "gates": judged(fields["gates"], report), "untrained": untrained}
