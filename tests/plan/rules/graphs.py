"""Graphs of which something is quantized, and their steps."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from autovoice.graph.wiring import Graph
from autovoice.plan.rules import Step, steps_of
from autovoice.spec import Calibration, Quantize, Target
from tests.builders import FRAMES, INT8, NPZ, component, graph_of, quantized


def steps(graph: Graph) -> dict[str, Step]:
    return {s.id: s for s in steps_of(graph)}


#: an int8 build without anything to be compared with
ALONE = replace(INT8, highers={})
SPEECH = Calibration("speech", "pipeline", Target("autovoice.calibration.sources.synthetic", {"dims": {}}))
NOTHING = Quantize()


def ids(graph: Graph, component: str) -> list[str]:
    """A component's steps in order, by the user's word for them."""
    return [s.id.partition(".")[2] for s in steps_of(graph) if s.component == component]


def one(calibration: Calibration = NPZ, **changes: Any) -> Graph:
    return graph_of(quantized("a", **{"precision": ALONE, "calibration": calibration} | changes))


def chain(calibration: Calibration = SPEECH) -> Graph:
    """a → b → c, of which b is quantized; d stands beside them."""
    b = quantized("b", ["a_out", "y"], precision=ALONE, calibration=calibration)
    parts = [component("a"), b, component("c", ["b_out"]), component("d", ["y"])]
    return graph_of(*parts, inputs=["x", "y"])


def pair_of(**changes: Any) -> Graph:
    """b, quantized, after a; `dims` apart, the changes are b's."""
    dims = changes.pop("dims", [FRAMES])
    b = quantized("b", ["a_out"], **{"precision": ALONE} | changes)
    return graph_of(component("a"), b, dims=dims)
