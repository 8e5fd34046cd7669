"""All built engines in a row against all float32 modules in a row."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from autovoice.backends.base import Shared, naming, on_host, read_by
from autovoice.backends.loading import session_of
from autovoice.measure.advice import end_to_end_advice
from autovoice.measure.parity import largest_input
from autovoice.measure.points import POINTS, feeds_at, load_point
from autovoice.spec.ports import by_name, by_wire
from autovoice.steps.context import Context
from autovoice.steps.verify import Known, judge, judged, notes_on, parities, trained

if TYPE_CHECKING:
    from autovoice.steps.fields import EndToEndFields


def run(context: Context[EndToEndFields]) -> dict[str, Any]:
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
        half = any(a["type"] == "float16" for a in fields["about"].values())
        for point in POINTS:
            wires = load_point(context.needs["inputs"], point)
            known = Known(shapes, audio, largest_input(wires.values()), half)
            for name, c, session in sessions:
                with naming(name):
                    got = session.run(read_by(session, by_name(c["inputs"], wires)))
                wires |= by_wire(c["outputs"], got)
            reference = feeds_at(point, fields["references"], context.needs)
            report[point] = parities(on_host({w: wires[w] for w in reference}), reference, point, known)
    judge(report, fields["gates"], end_to_end_advice(fields["about"]))
    untrained = sorted(fields["audio"].keys() - audio.keys())
    return {
        "parity": report,
        "gates": judged(fields["gates"], report),
        "untrained": untrained,
        "notes": notes_on(fields["gates"], report),
    }
