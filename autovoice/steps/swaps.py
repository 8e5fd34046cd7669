"""The float32 pipeline with one component after another replaced by its engine: what each one costs at the end."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

import numpy as np

from autovoice.backends.base import naming, on_host
from autovoice.backends.loading import session_of
from autovoice.measure.parity import largest_input
from autovoice.measure.points import load_point
from autovoice.onnx_tools.ort import float_session
from autovoice.steps.context import Context
from autovoice.steps.verify import Known, parities

POINT = "opt"
Wires = dict[str, np.ndarray]


def run(context: Context) -> dict[str, Any]:
    """{"point", "swaps": {component: {output wire: parity with that component and all before it replaced}}}.

    Every component downstream of the last one replaced runs its exported float32 graph.
    """
    fields = context.fields
    inputs = load_point(context.needs["inputs"], POINT)
    reference: Wires = {}
    for wire, name in fields["outputs"].items():
        reference[wire] = load_point(context.needs[f"reference:{name}"], POINT)[wire]
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


def _chain(components: Mapping[str, Any], runs: Mapping[str, Any], inputs: Wires) -> Wires:
    wires = dict(inputs)
    for name, c in components.items():
        got = runs[name]({local: wires[wire] for local, wire in c["inputs"].items()})
        wires |= {c["outputs"][local]["wire"]: value for local, value in got.items()}
    return wires


def _float(context: Context, name: str, c: Mapping[str, Any]) -> Any:
    session = float_session(context.needs[f"export:{name}"] / "model.onnx")
    outputs = list(c["outputs"])
    return lambda feeds: dict(zip(outputs, session.run(outputs, feeds), strict=True))


def _built(context: Context, name: str, c: Mapping[str, Any], stack: ExitStack) -> Any:
    session = stack.enter_context(session_of(c["backend"], context.needs[f"build:{name}"], c["outputs"]))

    def run_engine(feeds: Wires) -> Wires:
        with naming(name):
            return on_host(session.run(feeds))

    return run_engine
