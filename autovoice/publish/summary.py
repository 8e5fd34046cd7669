"""The table that a build ends with, written from its account."""

from __future__ import annotations

from autovoice.publish.account import BuildAccount, ComponentAccount, EngineAccount
from autovoice.publish.notes import notes_of
from autovoice.spec import SNR_EQUAL
from autovoice.store.artefacts import Record
from autovoice.terminal.escape import escaped
from autovoice.terminal.table import megabytes, seconds, table


def summary(account: BuildAccount) -> str:
    """A row a component: precision asked and delivered, size, worst parity, latency where measured, time spent now."""
    rows = [_row(c) for c in account.components]
    whole = f"{account.latency.result['ms']:.4g} ms" if account.latency else ""
    parity = _parity(account.end_to_end, bool(account.by_graph))
    rows.append(["end to end", "", "", "", *parity, whole, _spent(account.seconds)])
    columns = ["component", "asked", "delivered", "file", "worst parity", "at", "latency", "time"]
    if not whole and not any(c.race for c in account.components):
        rows, columns = [[*row[:-2], row[-1]] for row in rows], [c for c in columns if c != "latency"]
    return "\n".join([table(columns, rows), *map(escaped, notes_of(account, parity_of))])


def parity_of(engine: EngineAccount) -> str:
    """`67.1 dB ≥ 30` of one engine."""
    return _parity(engine.verify)[0]


def _row(account: ComponentAccount) -> list[str]:
    c, engine = account.component, account.engine
    baseline = f"{account.ratio:.2f}× {c.baseline.precision.name}" if account.ratio is not None and c.baseline else ""
    return [
        c.name,
        c.precision.name,
        delivered(account),
        megabytes(engine.size),
        *_parity(engine.verify, account.by_graph),
        baseline,
        _spent(account.seconds),
    ]


def delivered(account: ComponentAccount) -> str:
    """`fp16 41/43 nodes`; of a quantized one the convolutions and matrix products, which are all it is about."""
    c, engine = account.component, account.engine
    used = engine.variant.precision.name
    if used == c.precision.name:
        return delivered_of(engine)
    return f"{used}, faster" if account.chosen else f"{delivered_of(engine)}, by policy"


def delivered_of(engine: EngineAccount) -> str:
    """The same of one engine: how much of it computes in what was asked for."""
    v, found = engine.variant, engine.delivered
    heavy = found.get("heavy") if v.quantized else None
    counts, unit = (found["file"], found.get("unit", "nodes")) if heavy is None else (heavy, "Conv/MatMul")
    every, precision = sum(counts.values()), v.precision
    if v.component.prequantized:  # whatever was asked, it is what it was
        types = ", ".join(f"{kind} {count}" for kind, count in sorted(counts.items()))
        return f"as it is: {types or 'no'} {unit}"
    if precision.type == "tfloat32":  # a way to multiply float32, which no tool reports of a layer
        return f"fp32 {counts.get('float32', 0)}/{every} {unit}, {precision.name} allowed"
    by_builder = "quantized_by" in found and counts  # which may choose none
    if v.quantized and precision.type not in counts and not by_builder:
        return f"nothing of its {every} {unit} to quantize" if counts else "nothing to quantize"
    return f"{precision.name} {counts.get(precision.type, 0)}/{every} {unit}"


def _parity(record: Record | None, graph: bool = False) -> list[str]:
    """`67.1 dB ≥ 30` and the point where it is worst; identical outputs say so, and a graph that was judged instead.

    Where every reference is nothing but rounding, no ratio to it is a figure.
    """
    if record is None:
        return ["not run here", ""]
    measured = record.result["parity"].items()
    entries = [(db, at) for at, wires in measured for p in wires.values() if (db := p["snr_db"]) is not None]
    if not entries:
        return ["not meaningful", ""]
    worst, point = min(entries)
    gate = record.result["gates"].get("snr_db")
    what = "graph " if graph else ""
    if worst >= SNR_EQUAL:
        return [f"{what}identical", ""]
    judged = "" if gate is None else f" ≥ {gate:g}" if worst >= gate else f" < {gate:g}"
    marked = ", not met" if record.result.get("missed") else ""
    return [f"{what}{worst:.1f} dB{judged}{marked}", point]


def _spent(spent: float | None) -> str:
    """Seconds of the steps that ran now; reused ones cost nothing."""
    return "reused" if spent is None else seconds(spent)
