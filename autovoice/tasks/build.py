"""`task=build`: what will run and why, the steps as they finish, and a table of what came out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from autovoice.builds import Built, build
from autovoice.invocation import Invocation
from autovoice.spec import SNR_EQUAL
from autovoice.table import megabytes, seconds, table
from autovoice.tasks.plan import headline, shown


def run(invocation: Invocation) -> int:
    build_and_tell(invocation)
    return 0


def build_and_tell(invocation: Invocation) -> Built:
    """Build, telling the whole story when something runs and one line when nothing does."""
    invocation.check()  # a wrong configuration leaves no trace on the disk
    store = invocation.store
    store.prepare()
    with store.in_use():  # from the plan on: nothing that it counts on may be removed meanwhile
        working, existed = bool(invocation.plan.to_run), invocation.folder.is_dir()
        if working:
            print(f"{headline(invocation)}\n\n{shown(invocation.plan, only_runs=True)}\n", flush=True)
        built = build(invocation)
    manifest = built.folder / "manifest.json"
    if working:
        print(f"\n{summary(built)}\n{manifest}", flush=True)
        return built
    done = f"{'restored' if existed else 'wrote'} {', '.join(built.written)}" if built.written else "nothing to do"
    print(f"{invocation.title}: {done}, {len(built.plan.steps)} steps reused → {manifest}", flush=True)
    return built


def summary(built: Built) -> str:
    """A row a component: precision asked and delivered, size, worst parity, time spent now."""
    rows = [_row(c, built) for c in built.plan.graph.components]
    end = built.records["end_to_end"]
    rows.append(["end to end", "", "", "", *_parity(end.result), _spent(built, "")])
    text = table(["component", "asked", "delivered", "file", "worst parity", "at", "time"], rows)
    notes = sorted({n for c in built.plan.graph.components for n in _notes(c, built)})
    return "\n".join([text, *notes])


def _row(c: Any, built: Built) -> list[str]:
    record = built.records[f"{c.name}.build"].result
    counts = record["delivered"]["file"]
    got, total = counts.get(c.precision.type, 0), sum(counts.values())
    verify = built.records[f"{c.name}.verify"].result
    delivered = f"{c.precision.name} {got}/{total} nodes"
    return [
        c.name,
        c.precision.name,
        delivered,
        megabytes(record["size"]),
        *_parity(verify),
        _spent(built, c.name),
    ]


def _parity(result: Mapping[str, Any]) -> list[str]:
    """`67.1 dB ≥ 30` and the point where it is worst; identical outputs say so."""
    entries = [(p["snr_db"], point) for point, wires in result["parity"].items() for p in wires.values()]
    worst, point = min(entries)
    gate = result["gates"].get("snr_db")
    if worst >= SNR_EQUAL:
        return ["identical", ""]
    return [f"{worst:.1f} dB" + (f" ≥ {gate:g}" if gate is not None else ""), point]


def _notes(c: Any, built: Built) -> Iterator[str]:
    """What a reader would otherwise take for granted."""
    executed = built.records[f"{c.name}.build"].result["delivered"].get("executed", {})
    other = sorted(t for t in executed if t != c.precision.type)
    if other and c.precision.type not in executed:
        yield f" note: {c.backend.name} here computes {c.precision.name} files in {' and '.join(other)}, between casts"
    weights = built.records[f"{c.name}.export"].result.get("weights", {})
    if weights.get("missing"):
        share = f"{weights['loaded']} of {weights['loaded'] + weights['missing']} parameters"
        yield f" note: {c.name} has {share} from {weights['checkpoint']}, the rest is seeded"


def _spent(built: Built, component: str) -> str:
    """Seconds of the steps that ran now; reused ones cost nothing."""
    spent = [built.ran[p.step.id].seconds for p in built.plan.of(component) if p.step.id in built.ran]
    return seconds(sum(spent)) if spent else "reused"
