"""A lowered build and one of a higher precision timed side by side, and, where asked for, the faster one's engine."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from autovoice.backends.chain import timed_call
from autovoice.backends.loading import session_of
from autovoice.measure.points import feeds_at
from autovoice.measure.race import timed_rounds
from autovoice.steps.context import Context
from autovoice.store.atomic import RECORD, link_or_copy
from autovoice.store.hashing import uncached_sha256

if TYPE_CHECKING:
    from autovoice.steps.fields import RaceFields


def run(context: Context[RaceFields]) -> dict[str, Any]:
    """{"point": "opt", "ms": {precision: median}, "ratio": lowered over higher}; with `choose`, also the engine."""
    fields = context.fields
    feeds = feeds_at("opt", fields["reads"], context.needs)
    roles = dict(zip(fields["precisions"], ("build", "higher"), strict=True))
    lowered, higher = fields["precisions"]
    if _same(context, fields["type"]):  # nothing could be quantized: noise would decide
        result: dict[str, Any] = {"point": "opt", "rounds": 0, "ms": {}, "ratio": None}
        return result | (_chosen(context, roles, {lowered: 0.0}) if fields["choose"] else {})
    with ExitStack() as stack:
        calls = {}
        for name, role in roles.items():
            session = stack.enter_context(session_of(fields["backend"], context.needs[role], fields["outputs"]))
            calls[name] = timed_call(session, feeds)
        times = timed_rounds(calls)
    ms = {name: round(1000 * median(t), 4) for name, t in times.items()}
    result = {"point": "opt", "rounds": len(times[lowered]), "ms": ms, "ratio": round(ms[lowered] / ms[higher], 4)}
    return result | (_chosen(context, roles, ms) if fields["choose"] else {})


def _same(context: Context[RaceFields], lowered: str) -> bool:
    """True where both builds hold one engine; or nothing in the lower type, since some tools build no two alike."""
    folders = [context.needs["build"], context.needs["higher"]]
    results = [json.loads((folder / RECORD).read_bytes())["result"] for folder in folders]
    delivered = results[0]["delivered"]
    if not delivered.get("heavy", delivered["file"]).get(lowered):  # of a backend that tells no heavy ones, of all
        return True
    engines = [folder / result["engine"] for folder, result in zip(folders, results, strict=True)]
    return len({uncached_sha256(path) for path in engines}) == 1


def _chosen(context: Context[RaceFields], roles: Mapping[str, str], ms: Mapping[str, float]) -> dict[str, Any]:
    """The faster build's engine in this folder, and what its record says of it."""
    name = min(ms, key=lambda n: ms[n])
    folder = context.needs[roles[name]]
    build: dict[str, Any] = json.loads((folder / RECORD).read_bytes())["result"]
    for file in (build["engine"], *build["beside"]):
        link_or_copy(folder / file, Path(context.out) / file)
    return build | {"chosen": name}
