"""The float32 pipeline with one component after another replaced by its engine: what each one costs at the end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import numpy as np

from autovoice.backends.base import naming, on_host
from autovoice.backends.loading import session_of
from autovoice.measure.parity import largest_input
from autovoice.measure.points import feeds_at, load_point
from autovoice.onnx_tools.ort import float_session
from autovoice.spec.ports import by_name, by_wire
from autovoice.steps.context import Context
from autovoice.steps.verify import Known, parities

if TYPE_CHECKING:
    from autovoice.steps.fields import LinkField, SwapsFields

POINT = "opt"
Wires = dict[str, np.ndarray]
Run = Callable[[Wires], Wires]


def run(context: Context[SwapsFields]) -> dict[str, Any]:
    """{"point", "swaps": {component: {output wire: parity with that component and all before it replaced}}}.

    Every component downstream of the last one replaced runs its exported float32 graph.
    """
    fields = context.fields
    inputs = load_point(context.needs["inputs"], POINT)
    reference = feeds_at(POINT, fields["references"], context.needs)
    known = Known(scale=largest_input(inputs.values()))
    with ExitStack() as stack:
        run_float = {n: _float(context, n, c) for n, c in fields["components"].items()}
        run_built = {n: _built(context, n, c, stack) for n, c in fields["components"].items()}
        runs, report = dict(run_float), {}
        for name in fields["components"]:
            runs[name] = run_built[name]
            if name in fields["lowered"]:
                wires = _chain(fields["components"], runs, inputs)
                report[name] = parities({w: wires[w] for w in reference}, reference, POINT, known)
    return {"point": POINT, "swaps": report}


def _chain(components: Mapping[str, LinkField], runs: Mapping[str, Run], inputs: Wires) -> Wires:
    wires = dict(inputs)
    for name, c in components.items():
        wires |= by_wire(c["outputs"], runs[name](by_name(c["inputs"], wires)))
    return wires


def _float(context: Context[SwapsFields], name: str, c: LinkField) -> Run:
    session = float_session(context.needs[f"export:{name}"] / "model.onnx")
    outputs = list(c["outputs"])
    return lambda feeds: dict(zip(outputs, session.run(outputs, feeds), strict=True))


def _built(context: Context[SwapsFields], name: str, c: LinkField, stack: ExitStack) -> Run:
    session = stack.enter_context(session_of(c["backend"], context.needs[f"build:{name}"], c["outputs"]))

    def run_engine(feeds: Wires) -> Wires:
        with naming(name):
            return on_host(session.run(feeds))

    return run_engine
