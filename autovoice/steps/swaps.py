"""The float32 pipeline with one component after another replaced by its engine: what each one costs at the end."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from autovoice.backends.base import HOST, Runs, on_host
from autovoice.backends.chain import Link, built_chain, link, run_chain
from autovoice.measure.parity import largest_input
from autovoice.measure.points import feeds_at, load_point
from autovoice.onnx_tools.ort import float_session
from autovoice.spec.ports import wires
from autovoice.steps.context import Context
from autovoice.steps.verify import Known, parities

if TYPE_CHECKING:
    from autovoice.steps.fields import LinkField, SwapsFields

POINT = "opt"
Wires = dict[str, np.ndarray]


def run(context: Context[SwapsFields]) -> dict[str, Any]:
    """{"point", "swaps": {component: {output wire: parity with that component and all before it replaced}}}.

    Every component downstream of the last one replaced runs its exported float32 graph.
    """
    fields = context.fields
    components = fields["components"]
    inputs = load_point(context.needs["inputs"], POINT)
    reference = feeds_at(POINT, fields["references"], context.needs)
    known = Known(scale=largest_input(inputs.values()))
    links: dict[str, Link[Runs]] = {n: _exported(context, n, c) for n, c in components.items()}
    builds = {name: context.needs[f"build:{name}"] for name in components}
    report = {}
    with built_chain(components, builds) as built:
        for one in built:
            links[one.name] = one
            if one.name in fields["lowered"]:
                got = on_host({w: a for w, a in run_chain(links.values(), inputs).items() if w in reference})
                report[one.name] = parities(got, reference, POINT, known)
    return {"point": POINT, "swaps": report}


class _Float32:
    """A component's exported graph."""

    memory = HOST

    def __init__(self, model: Path, outputs: list[str]) -> None:
        self._session = float_session(model)
        self._outputs = outputs

    def run(self, feeds: Mapping[str, Any]) -> Wires:
        return dict(zip(self._outputs, self._session.run(self._outputs, dict(feeds)), strict=True))


def _exported(context: Context[SwapsFields], name: str, c: LinkField) -> Link[Runs]:
    graph = _Float32(context.needs[f"export:{name}"] / "model.onnx", list(c["outputs"]))
    return link(name, graph, wires(c["inputs"]), wires(c["outputs"]))
