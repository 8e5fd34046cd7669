"""The whole built pipeline timed at opt as a caller runs it, and each of its components alone."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING, Any

from autovoice.backends.chain import built_chain, run_chain, timed_call, timed_chain
from autovoice.measure.points import load_point
from autovoice.measure.race import timed_rounds
from autovoice.steps.context import Context

if TYPE_CHECKING:
    from autovoice.steps.fields import LatencyFields

POINT = "opt"
#: no component's name
_WHOLE = ""


def run(context: Context[LatencyFields]) -> dict[str, Any]:
    """{"point", "rounds", "ms": median of the whole, "component_ms": {name: median}, "notes"}.

    The whole is one chain that is waited for at its end, its inputs where the engines want them, as
    `Pipeline.run(…, on_device=True)` runs it; each component alone is waited for, so that their sum is more.
    """
    components = context.fields["components"]
    inputs = load_point(context.needs["inputs"], POINT)
    builds = {name: context.needs[f"build:{name}"] for name in components}
    with built_chain(components, builds) as links:
        wires = run_chain(links, inputs)
        calls = {one.name: timed_call(one.session, one.feeds(wires)) for one in links}
        times = timed_rounds({_WHOLE: timed_chain(links, inputs), **calls})
        notes = [f"{one.name}: {note}" for one in links for note in one.session.notes]
    ms = {name: round(1000 * median(t), 4) for name, t in times.items()}
    rounds = len(times[_WHOLE])
    return {"point": POINT, "rounds": rounds, "ms": ms.pop(_WHOLE), "component_ms": ms, "notes": notes}
