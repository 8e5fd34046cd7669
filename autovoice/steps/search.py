"""The cheapest list of exclusions with which a quantized component meets its gate."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autovoice.measure.gates import judged_value, misses
from autovoice.measure.parity import largest_input
from autovoice.measure.points import POINTS, feeds_at
from autovoice.measure.trial import Trial
from autovoice.spec import SNR_EQUAL
from autovoice.spec.ports import by_wire
from autovoice.steps.context import Context
from autovoice.steps.sensitivity import trial_of
from autovoice.steps.verify import Known, parities, trained
from autovoice.store.names import FOUND, RANKING

if TYPE_CHECKING:
    from autovoice.steps.fields import SearchFields

Ranking = Sequence[Mapping[str, Any]]


def run(context: Context[SearchFields]) -> dict[str, Any]:
    """Write search.json: {excluded, quantized, tried: [{excluded, met, worst}], macs_share}.

    Excluding costs the multiply-accumulates that then run in floating point. Nodes are ordered by the noise they
    make alone per multiply-accumulate; the shortest prefix of that order that meets the gate is found by bisection
    (noise of independent nodes adds, so that more exclusions mean less of it), and then everything excluded is tried
    again without, the most expensive first. Every step of it is measured on the very points of verification.
    """
    fields = context.fields
    ranking = json.loads((context.needs["sensitivity"] / RANKING).read_bytes())
    nodes = [r for r in ranking if r["chosen"]]
    order = sorted(nodes, key=lambda r: (-noise(r) / max(r["macs"], 1), r["node"]))
    judge = _Judge(context, trial_of(context), [r["node"] for r in nodes])
    excluded = _restored(_prefix(order, judge), judge, fields["evaluations"])
    share = 1 - sum(r["macs"] for r in excluded) / max(sum(r["macs"] for r in ranking), 1)
    names = [r["node"] for r in excluded]
    own = _own_weights(ranking)
    quantized = [r["node"] for r in nodes if r["node"] not in names]
    met = bool(judge(names)["met"])
    result = {
        "excluded": sorted(names),
        "patterns": sorted(own.get(n, n) for n in names),
        "quantized": sorted(quantized),
        "met": met,
        "worst": judge(names)["worst"],
        "before": judge([])["worst"],
        "macs_share": round(share - _outside(ranking), 4),
        "tried": judge.tried,
    }
    (Path(context.out) / FOUND).write_text(json.dumps(result, indent=1) + "\n")
    return {k: result[k] for k in ("excluded", "met", "macs_share", "worst", "before")} | {"tried": len(judge.tried)}


def noise(entry: Mapping[str, Any]) -> float:
    """Noise power over signal power of quantizing a node alone; where it is known, at the pipeline's output."""
    db = entry["pipeline_snr_db"] if entry["pipeline_snr_db"] is not None else entry["snr_db"]
    return float(10 ** (-db / 10))


def _own_weights(ranking: Ranking) -> dict[str, str]:
    """{node: a weight that it alone reads}: parameters keep their names over exports, nodes are numbered anew."""
    readers: dict[str, list[str]] = {}
    for r in ranking:
        for weight in r["weights"]:
            readers.setdefault(weight, []).append(r["node"])
    return {nodes[0]: weight for weight, nodes in readers.items() if len(nodes) == 1}


def _outside(ranking: Ranking) -> float:
    """The share of multiply-accumulates that the starting policy leaves out already."""
    total = max(sum(r["macs"] for r in ranking), 1)
    return float(sum(r["macs"] for r in ranking if not r["chosen"]) / total)


class _Judge:
    """Whether the gate is met with these nodes excluded, measured once each."""

    def __init__(self, context: Context[SearchFields], trial: Trial, nodes: Sequence[str]) -> None:
        self.trial, self.nodes, self.context = trial, nodes, context
        self.audio = context.fields["audio"] if trained(context.needs) else {}
        self.known: dict[frozenset[str], dict[str, Any]] = {}

    def __call__(self, excluded: Sequence[str]) -> dict[str, Any]:
        key = frozenset(excluded)
        if key not in self.known:
            self.known[key] = self._measured(excluded)
        return self.known[key]

    @property
    def tried(self) -> list[dict[str, Any]]:
        return list(self.known.values())

    def _measured(self, excluded: Sequence[str]) -> dict[str, Any]:
        fields, needs = self.context.fields, self.context.needs
        runner = self.trial.lowered([n for n in self.nodes if n not in set(excluded)])
        shapes = {o["wire"]: o["shape"] for o in fields["outputs"].values()}
        references = fields["references"]
        entries = []
        for point in POINTS:
            feeds = feeds_at(point, fields["reads"], needs)
            wires = by_wire(fields["outputs"], runner(feeds))
            known = Known(shapes, self.audio, largest_input(feeds.values()))
            found = parities(wires, by_wire(references, feeds_at(point, references, needs)), point, known)
            entries += [{"wire": w, "point": point, **p} for w, p in found.items()]
        missed = [e for e in entries if misses(e, fields["gates"])]
        levels = [SNR_EQUAL if (db := judged_value(e, "snr_db")) is None else db for e in entries]
        at = levels.index(min(levels))
        told = {k: entries[at][k] for k in ("wire", "point", "cosine")} | {"snr_db": levels[at]}
        return {"excluded": sorted(excluded), "met": not missed, "worst": told}


def _prefix(order: Ranking, judge: Callable[[Sequence[str]], Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The shortest prefix of `order` that meets the gate when excluded."""
    low, high = 0, len(order)
    while low < high:
        middle = (low + high) // 2
        if judge([r["node"] for r in order[:middle]])["met"]:
            high = middle
        else:
            low = middle + 1
    return list(order[:high])


def _restored(excluded: list[Mapping[str, Any]], judge: _Judge, evaluations: int) -> list[Mapping[str, Any]]:
    """What of it must really stay excluded, the most expensive tried first; all of it where that is not enough."""
    if not judge([r["node"] for r in excluded])["met"]:
        return excluded
    for entry in sorted(excluded, key=lambda r: -r["macs"]):
        if len(judge.tried) >= evaluations:
            break
        fewer = [r for r in excluded if r is not entry]
        if judge([r["node"] for r in fewer])["met"]:
            excluded = fewer
    return excluded
