"""`task=inspect component.vocoder`: what is in a built engine, layer by layer, and what it computes in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from autovoice.command.invocation import Invocation
from autovoice.errors import ArtefactError, AutovoiceError
from autovoice.plan.planner import Planned
from autovoice.plan.rules import engine_of
from autovoice.spec import Component
from autovoice.store.artefacts import Record
from autovoice.store.json_files import read_json
from autovoice.terminal.escape import escaped
from autovoice.terminal.table import table

#: what the name of a build's list of layers ends in
LAYERS = ".layers.json"
_WIDTH = 60


def run(invocation: Invocation) -> int:
    """Print every engine that `targets` name, all without. Raises AutovoiceError for one that is not built."""
    invocation.check()
    built = {p.step.id: p for p in invocation.plan.steps}
    wanted = invocation.settings.targets or [c.name for c in invocation.graph.components]
    chosen = [c for c in invocation.graph.components if c.name in wanted]
    records = {c.name: _record(invocation, c, built[engine_of(c)]) for c in chosen}
    print("\n\n".join("\n".join(_format_engine(invocation, c, records[c.name])) for c in chosen))
    return 0


def _record(invocation: Invocation, c: Component, planned: Planned) -> Record:
    if planned.record is None:
        fact = f"component.{c.name}: its engine is not built: {planned.why[0]}"
        raise AutovoiceError(fact, " ".join(["autovoice", *(o for o in invocation.overrides if "task=" not in o)]))
    return planned.record


def _format_engine(invocation: Invocation, c: Component, record: Record) -> Iterator[str]:
    delivered = record.result["delivered"]
    by = f", reported by the {delivered['told_by']}" if "told_by" in delivered else ""
    yield escaped(f"{c.name}: {record.result['engine']}, {c.backend.name}, asked {c.precision.name}{by}")
    for kind, words in (
        ("file", "computes in"),
        ("heavy", "convolutions and products in"),
        ("time", "share of time in"),
    ):
        if delivered.get(kind):
            yield f" {words}: {', '.join(f'{t} {n}' for t, n in sorted(delivered[kind].items()))}"
    name = next((b for b in record.result["beside"] if b.endswith(LAYERS)), None)
    if name is None:
        yield " no layers to show: its engine is a graph, or was built for another machine"
        return
    path = invocation.store.folder(record.key) / name
    try:
        layers = read_json(path)
    except (OSError, ValueError) as e:
        raise ArtefactError(f"{path}: cannot be read: {e}", "run the build again: it restores the file") from e
    yield table(
        ["layer", "kind", "reads", "writes", "ms", "tactic"], [_row(x) for x in layers if x["nodes"] or x["ms"]]
    )


def _row(layer: Mapping[str, Any]) -> list[str]:
    ms = f"{layer['ms']:.4f}" if layer["ms"] is not None else ""
    types = [", ".join(dict.fromkeys(layer[k])) for k in ("reads", "writes")]
    return [_short(layer["name"]), layer["kind"], *types, ms, _short(layer["tactic"])]


def _short(text: str) -> str:
    return text if len(text) <= _WIDTH else f"{text[: _WIDTH - 1]}…"
