"""All built engines in a row against all float32 modules in a row."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from autovoice.backends.base import on_host
from autovoice.backends.chain import built_chain, run_chain
from autovoice.measure.advice import end_to_end_advice
from autovoice.measure.parity import largest_input
from autovoice.measure.points import POINTS, feeds_at, load_point
from autovoice.steps.context import Context
from autovoice.steps.verify import Known, judge, judged, not_met, notes_on, parities, trained

if TYPE_CHECKING:
    from autovoice.steps.fields import EndToEndFields


def run(context: Context[EndToEndFields]) -> dict[str, Any]:
    """Parity of the pipeline's outputs at each point. Raises GateError."""
    fields = context.fields
    shapes = {o["wire"]: o["shape"] for c in fields["components"].values() for o in c["outputs"].values()}
    audio = fields["audio"] if trained(context.needs) else {}
    half = any(a["type"] == "float16" for a in fields["about"].values())
    builds = {name: context.needs[f"build:{name}"] for name in fields["components"]}
    report = {}
    with built_chain(fields["components"], builds) as links:
        for point in POINTS:
            inputs = load_point(context.needs["inputs"], point)
            known = Known(shapes, audio, largest_input(inputs.values()), half)
            wires = run_chain(links, inputs)
            reference = feeds_at(point, fields["references"], context.needs)
            report[point] = parities(on_host({w: wires[w] for w in reference}), reference, point, known)
    advice = end_to_end_advice(fields["about"])
    missed = judge(report, fields["gates"], advice, fields.get("enforce", True))
    untrained = sorted(fields["audio"].keys() - audio.keys())
    return {
        "parity": report,
        "gates": judged(fields["gates"], report),
        "missed": missed,
        "untrained": untrained,
        "notes": [*not_met(missed), *notes_on(fields["gates"], report)],
    }
