"""The damage that quantizing each node alone does, at the component's outputs and at the pipeline's."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from autovoice.calibration.samples import sample_feeds, sample_files
from autovoice.measure.macs import macs
from autovoice.measure.trial import Noise, Runner, Trial, runner
from autovoice.onnx_tools.lowering.exclude import kept_nodes
from autovoice.onnx_tools.lowering.policy import chosen_nodes, quantizable
from autovoice.spec.ports import by_name, by_wire, roles
from autovoice.steps.context import Context
from autovoice.store.atomic import RANGES
from autovoice.store.names import RANKING
from autovoice.store.npz import read_npz

if TYPE_CHECKING:
    from autovoice.steps.fields import SensitivityFields, TrialFields

Wires = dict[str, np.ndarray]


def run(context: Context[SensitivityFields]) -> dict[str, Any]:
    """Write sensitivity.json, worst first: [{node, op_type, weights, snr_db, pipeline_snr_db, macs, chosen}]."""
    fields = context.fields
    export = context.needs["export"] / "model.onnx"
    model = onnx.load(export)
    kept = set(kept_nodes(model, fields["keep"]))
    nodes = [n for n in quantizable(model) if n.op_type in fields["op_types"] and n.name not in kept]
    if not nodes:
        (context.out / RANKING).write_text("[]\n")
        return {"nodes": 0, "samples": 0, "worst": None}
    samples = _samples(context)
    costs = macs(export, samples[0][0])
    chosen = set(chosen_nodes(model, fields["quantize"], fields["keep"]))
    weights = {t.name for t in model.graph.initializer}
    trial = trial_of(context)
    after = _Downstream(context)
    clean = [trial.float32()(feeds) for feeds, _ in samples]
    ends = [after.run(outputs, wires) for outputs, (_, wires) in zip(clean, samples, strict=True)]
    ranking = []
    for node in nodes:
        own, end = _damage(trial.lowered([node.name]), samples, clean, after, ends)
        ranking.append(
            {
                "node": node.name,
                "op_type": node.op_type,
                "weights": [i for i in node.input if i in weights][:1],
                "snr_db": round(own.db, 3),
                "pipeline_snr_db": round(end.db, 3) if after.outputs else None,
                "macs": costs[node.name],
                "chosen": node.name in chosen,
            }
        )
    ranking.sort(key=lambda r: (r["snr_db"], r["node"]))
    (context.out / RANKING).write_text(json.dumps(ranking, indent=1) + "\n")
    return {"nodes": len(ranking), "samples": len(samples), "worst": ranking[0]["node"]}


def trial_of(context: Context[TrialFields]) -> Trial:
    fields = context.fields
    return Trial(
        context.needs["export"] / "model.onnx",
        context.needs["ranges"] / RANGES,
        fields["lowering"],
        fields["keep"],
        tuple(fields["outputs"]),
        context.out,
    )


def _samples(context: Context[SensitivityFields]) -> list[tuple[Wires, Wires]]:
    """Inputs, and every wire known beside them, of `limit` samples spread over all of them."""
    fields = context.fields
    names = sample_files(context.needs[roles(fields["reads"])[0]])
    count = min(fields["limit"], len(names))
    wanted = {names[(2 * i + 1) * len(names) // (2 * count)] for i in range(count)}
    found = []
    for name, feeds in sample_feeds(fields["reads"], context.needs):
        if name in wanted:
            beside: Wires = {}
            for role in sorted({role for c in fields["downstream"].values() for role in roles(c["reads"])}):
                beside |= read_npz(context.needs[role] / name) if role in context.needs else {}
            found.append((feeds, beside))
    return found


class _Downstream:
    """Everything between the component and the pipeline's outputs, in float32."""

    def __init__(self, context: Context[SensitivityFields]) -> None:
        fields = context.fields
        self.own, self.components, self.outputs = fields["outputs"], fields["downstream"], fields["pipeline_outputs"]
        self.runners: dict[str, Runner] = {
            name: runner(context.needs[f"export:{name}"] / "model.onnx", tuple(c["outputs"]))
            for name, c in self.components.items()
        }

    def run(self, outputs: Wires, beside: Wires) -> Wires:
        """The pipeline's outputs, for one sample's outputs of the component."""
        wires = {**beside, **by_wire(self.own, outputs)}
        for name, c in self.components.items():
            wires |= by_wire(c["outputs"], self.runners[name](by_name(c["reads"], wires)))
        return {wire: wires[wire] for wire in self.outputs}


def _damage(
    lowered: Runner, samples: Iterable[tuple[Wires, Wires]], clean: list[Wires], after: _Downstream, ends: list[Wires]
) -> tuple[Noise, Noise]:
    own, end = Noise(), Noise()
    for (feeds, beside), reference, reached in zip(samples, clean, ends, strict=True):
        got = lowered(feeds)
        for name, value in got.items():
            own.add(value, reference[name])
        for wire, value in after.run(got, beside).items() if after.outputs else ():
            end.add(value, reached[wire])
    return own, end
