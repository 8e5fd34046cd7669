"""The whole built pipeline timed at opt, one component after another as a caller would."""

from __future__ import annotations

from contextlib import ExitStack
from statistics import median
from typing import TYPE_CHECKING, Any

from autovoice.backends.base import Shared, naming, read_by, timed_call
from autovoice.backends.loading import session_of
from autovoice.measure.points import load_point
from autovoice.measure.race import timed_rounds
from autovoice.spec.ports import by_name, by_wire
from autovoice.steps.context import Context

if TYPE_CHECKING:
    from autovoice.steps.fields import LatencyFields

POINT = "opt"


def run(context: Context[LatencyFields]) -> dict[str, Any]:
    """{"point", "rounds", "ms": median of the whole, "component_ms": {name: median}}."""
    wires = load_point(context.needs["inputs"], POINT)
    with Shared() as shared, ExitStack() as stack:
        calls = {}
        for name, c in context.fields["components"].items():
            built = context.needs[f"build:{name}"]
            session = stack.enter_context(session_of(c["backend"], built, c["outputs"], shared))
            feeds = by_name(c["inputs"], wires)
            calls[name] = timed_call(session, feeds)
            with naming(name):
                got = session.run(read_by(session, feeds))
            wires |= by_wire(c["outputs"], got)
        times = timed_rounds(calls)
    rounds = len(next(iter(times.values())))
    whole = [sum(t[i] for t in times.values()) for i in range(rounds)]
    each = {name: round(1000 * median(t), 4) for name, t in times.items()}
    return {"point": POINT, "rounds": rounds, "ms": round(1000 * median(whole), 4), "component_ms": each}
