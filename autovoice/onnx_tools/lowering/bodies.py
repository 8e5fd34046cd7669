"""Nodes with bodies (If, Loop, Scan) taken out of a graph while its precision changes, and put back.

Nothing that rewrites types looks into bodies rightly: what they capture is no input of their node. So each such node
is exchanged for a stand-in that reads, as inputs of its own, all that node and bodies read, and stays float32. Casts
at its border are then put in like those of any other node that is kept, and bodies compute in float32 as before.
"""

from __future__ import annotations

import onnx
from onnx import helper

from autovoice.onnx_tools.graph import body_nodes, captured, has_bodies, rename_captured
from autovoice.onnx_tools.io import HEAVY

#: of stand-ins, while they stand in
_DOMAIN = "autovoice.bodies"


def take_out(graph: onnx.GraphProto) -> dict[str, onnx.NodeProto]:
    """Exchange nodes with bodies for stand-ins, in place: {name of node and stand-in: the node}."""
    taken: dict[str, onnx.NodeProto] = {}
    nodes = []
    for node in graph.node:
        if not has_bodies(node):
            nodes.append(node)
            continue
        taken[node.name] = onnx.NodeProto.FromString(node.SerializeToString())
        reads = [*node.input, *sorted(captured(node))]
        nodes.append(helper.make_node("Body", reads, node.output, node.name, domain=_DOMAIN))
    if taken:
        made = [onnx.NodeProto.FromString(n.SerializeToString()) for n in nodes]
        del graph.node[:]
        graph.node.extend(made)
    return taken


def put_back(graph: onnx.GraphProto, taken: dict[str, onnx.NodeProto]) -> None:
    """Put the nodes back where their stand-ins are, in place, reading and writing what these do by now."""
    for place in [n for n in graph.node if n.domain == _DOMAIN]:
        node = taken[place.name]
        own = len(node.input)
        inner = dict(zip(sorted(captured(node)), place.input[own:], strict=True))
        rename_captured(node, {old: new for old, new in inner.items() if old != new})
        node.input[:] = place.input[:own]
        node.output[:] = place.output
        place.CopyFrom(node)


def bodies_note(graph: onnx.GraphProto) -> dict[str, list[str]]:
    """What a step says of a graph part of which stays in float32 because it stands in bodies; nothing of others."""
    count = sum(n.op_type in HEAVY for n in body_nodes(graph))
    owners = " and ".join(sorted({n.op_type for n in graph.node if has_bodies(n)}))
    return {"notes": [f"{count} Conv/MatMul inside {owners} stay in float32"]} if count else {}
