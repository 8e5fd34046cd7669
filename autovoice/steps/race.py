"""A lowered build and one of a higher precision timed side by side, and, where asked for, the faster one's engine."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

from autovoice.backends.base import Session, backend_from_target
from autovoice.files import link_or_copy
from autovoice.steps.context import Context
from autovoice.steps.points import feeds_at
from autovoice.store import RECORD

WARM_UP = 3
ROUNDS = 30
SECONDS = 6.0
_FEWEST = 5


def run(context: Context) -> dict[str, Any]:
    """{"point": "opt", "ms": {precision: median}, "ratio": lowered over higher}; with `choose`, also the engine."""
    fields = context.fields
    backend = backend_from_target(fields["backend"]["target"], fields["backend"]["options"])
    feeds = feeds_at("opt", fields["reads"], context.needs)
    roles = dict(zip(fields["precisions"], ("build", "higher"), strict=True))
    with ExitStack() as stack:
        sessions = {}
        for name, role in roles.items():
            engine = context.needs[role] / f"engine{backend.suffix}"
            sessions[name] = stack.enter_context(backend.session_from_engine(engine, tuple(fields["outputs"])))
        times = raced(sessions, feeds)
    ms = {name: round(1000 * median(t), 4) for name, t in times.items()}
    lowered, higher = fields["precisions"]
    result = {"point": "opt", "rounds": len(times[lowered]), "ms": ms, "ratio": round(ms[lowered] / ms[higher], 4)}
    return result | (_chosen(context, roles, ms) if fields["choose"] else {})


def raced(sessions: Mapping[str, Session], feeds: Mapping[str, Any]) -> dict[str, list[float]]:
    """Seconds of each call, the sessions in turn, so that what slows the machine slows all of them."""
    for session in sessions.values():
        for _ in range(WARM_UP):
            session.run(feeds)
    times: dict[str, list[float]] = {name: [] for name in sessions}
    end = time.perf_counter() + SECONDS
    for turn in range(ROUNDS):
        for name, session in sessions.items():
            start = time.perf_counter()
            session.run(feeds)
            times[name].append(time.perf_counter() - start)
        if turn + 1 >= _FEWEST and time.perf_counter() > end:
            break
    return times


def _chosen(context: Context, roles: Mapping[str, str], ms: Mapping[str, float]) -> dict[str, Any]:
    """The faster build's engine in this folder, and what its record says of it."""
    name = min(ms, key=lambda n: ms[n])
    folder = context.needs[roles[name]]
    build: dict[str, Any] = json.loads((folder / RECORD).read_bytes())["result"]
    link_or_copy(folder / build["engine"], Path(context.out) / build["engine"])
    return build | {"chosen": name}
