"""A lowered build and one of a higher precision timed side by side, and, where asked for, the faster one's engine."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from autovoice.backends.base import backend_from_target
from autovoice.files import RECORD, link_or_copy
from autovoice.hashing import uncached_sha256
from autovoice.measure.race import raced
from autovoice.steps.context import Context
from autovoice.steps.points import feeds_at


def run(context: Context) -> dict[str, Any]:
    """{"point": "opt", "ms": {precision: median}, "ratio": lowered over higher}; with `choose`, also the engine."""
    fields = context.fields
    backend = backend_from_target(fields["backend"]["target"], fields["backend"]["options"])
    feeds = feeds_at("opt", fields["reads"], context.needs)
    roles = dict(zip(fields["precisions"], ("build", "higher"), strict=True))
    lowered, higher = fields["precisions"]
    if _same(context, backend.suffix):  # nothing could be quantized: noise would decide
        result: dict[str, Any] = {"point": "opt", "rounds": 0, "ms": {}, "ratio": None}
        return result | (_chosen(context, roles, {lowered: 0.0}) if fields["choose"] else {})
    with ExitStack() as stack:
        calls = {}
        for name, role in roles.items():
            engine = context.needs[role] / f"engine{backend.suffix}"
            session = stack.enter_context(backend.session_from_engine(engine, tuple(fields["outputs"])))
            calls[name] = partial(session.run, feeds)
        times = raced(calls)
    ms = {name: round(1000 * median(t), 4) for name, t in times.items()}
    result = {"point": "opt", "rounds": len(times[lowered]), "ms": ms, "ratio": round(ms[lowered] / ms[higher], 4)}
    return result | (_chosen(context, roles, ms) if fields["choose"] else {})


def _same(context: Context, suffix: str) -> bool:
    digests = {uncached_sha256(context.needs[role] / f"engine{suffix}") for role in ("build", "higher")}
    return len(digests) == 1


def _chosen(context: Context, roles: Mapping[str, str], ms: Mapping[str, float]) -> dict[str, Any]:
    """The faster build's engine in this folder, and what its record says of it."""
    name = min(ms, key=lambda n: ms[n])
    folder = context.needs[roles[name]]
    build: dict[str, Any] = json.loads((folder / RECORD).read_bytes())["result"]
    link_or_copy(folder / build["engine"], Path(context.out) / build["engine"])
    return build | {"chosen": name}
