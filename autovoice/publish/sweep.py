"""A sweep's objectives by build, and the Pareto front of its builds."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from autovoice.errors import ArtefactError, AutovoiceError, unwritable
from autovoice.measure.gates import least_snr
from autovoice.runtime.manifest import read_manifest
from autovoice.spec import OBJECTIVES
from autovoice.store.json_files import read_json
from autovoice.terminal.table import table

FILE = "objectives.json"
#: as much as Hydra writes about a sweep before its first job
_ROOM = 1 << 16


def prepare(sweep: Path) -> None:
    """Make the folder in which a sweep keeps its own files. Raises StoreError where it cannot be written."""
    try:
        sweep.mkdir(parents=True, exist_ok=True)
        probe = sweep / f".probe-{uuid.uuid4().hex}"
        try:
            probe.write_bytes(bytes(_ROOM))
        finally:
            probe.unlink(missing_ok=True)
    except OSError as e:
        fix = "sweep elsewhere: paths.outputs=/another/folder, or hydra.sweep.dir=/another/folder alone"
        raise unwritable(f"hydra.sweep.dir: {sweep}", e, fix) from e


def objectives(folder: Path) -> dict[str, float]:
    """Of a built folder the files' size and, where they were measured, the worst SNR end to end and its time."""
    manifest = read_manifest(folder)
    found = {"megabytes": round(sum(c["size"] for c in manifest["components"]) / 1e6, 3)}
    if manifest["end_to_end"]:
        found = {"snr_db": round(least_snr(manifest["end_to_end"]["parity"]), 2), **found}
    return found | ({"ms": manifest["latency"]["ms"]} if manifest["latency"] else {})


def check_objectives(names: Sequence[str], directions: Any, timed: bool) -> None:
    """Raise AutovoiceError unless a sweeper that optimises can be told all of these objectives."""
    wanted = [OBJECTIVES[n] for n in names]
    several = isinstance(directions, Iterable) and not isinstance(directions, str)
    given = [str(getattr(d, "name", d)) for d in (directions if several else [directions] if directions else [])]
    if given != wanted:
        fix = f"hydra.sweeper.direction=[{','.join(wanted)}], or another list of objectives"
        raise AutovoiceError(f"hydra.sweeper.direction is {given}, objectives are {list(names)}", fix)
    if "ms" in names and not timed:
        raise AutovoiceError("objectives: nothing measures 'ms' in these builds", "timed=true, or leave it out")


def objective_values(found: Mapping[str, float], names: Sequence[str]) -> list[float]:
    """What a sweeper that optimises asked for. Raises AutovoiceError where a build does not have it."""
    for name in names:
        if name not in found:
            fact = f"objectives: nothing measured '{name}' of this build, whose engines cannot run here"
            raise AutovoiceError(fact, "leave it out, or choose a backend that runs here")
    return [found[name] for name in names]


def save(folder: Path, overrides: Sequence[str], found: Mapping[str, float]) -> None:
    """Beside the sweep's own files of one job."""
    data = {"overrides": list(overrides), "objectives": dict(found)}
    (folder / FILE).write_text(json.dumps(data, indent=1) + "\n")


def pareto(sweep: Path) -> str:
    """A table of a sweep's builds, those first that no other build beats in everything; "" where nothing was saved.

    Raises ArtefactError for a file that is not as it was saved.
    """
    jobs = [_job(path) for path in sorted(sweep.glob(f"*/{FILE}"))]
    names = [n for n in OBJECTIVES if jobs and all(n in j["objectives"] for j in jobs)]
    distinct = {tuple(j["overrides"]): [j["objectives"][n] for n in names] for j in jobs}
    if len(distinct) < 2:
        return ""
    front = {o for o, values in distinct.items() if not any(_beats(v, values, names) for v in distinct.values())}
    ordered = sorted(distinct, key=lambda o: (o not in front, distinct[o]))
    shared = set.intersection(*(set(o) for o in distinct))
    differing = {o: " ".join(one for one in o if one not in shared) for o in distinct}
    rows = [["*" if o in front else "", *(f"{v:.4g}" for v in distinct[o]), differing[o]] for o in ordered]
    return table(["", *names, "overrides"], rows) + f"\n * on the Pareto front, {len(front)} of {len(distinct)} builds"


def _job(path: Path) -> dict[str, Any]:
    """What `save` wrote. Raises ArtefactError for anything else."""
    try:
        data = read_json(path)
        overrides, found = data["overrides"], data["objectives"]
        if not isinstance(overrides, list) or not all(isinstance(o, str) for o in overrides):
            raise ValueError("no overrides")
        if not all(isinstance(v, int | float) for v in found.values()):
            raise ValueError("no objectives")
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as e:
        raise ArtefactError(f"{path}: is not what a sweep has written: {e}", "remove it, or sweep again") from e
    return {"overrides": overrides, "objectives": found}


def _beats(a: Iterable[float], b: Iterable[float], names: Sequence[str]) -> bool:
    """True when `a` is nowhere worse than `b`, and better somewhere."""
    signs = [1 if OBJECTIVES[n] == "maximize" else -1 for n in names]
    gains = [s * (x - y) for s, x, y in zip(signs, a, b, strict=True)]
    return all(g >= 0 for g in gains) and any(g > 0 for g in gains)
