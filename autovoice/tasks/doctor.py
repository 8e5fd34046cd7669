"""`task=doctor`: what this machine can build and run, what is missing, and the command that adds it."""

from __future__ import annotations

import platform
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from autovoice.command.invocation import Invocation
from autovoice.command.requirements import tools
from autovoice.config.backends import BackendReader
from autovoice.config.reader import Reader
from autovoice.errors import AutovoiceError, ConfigError
from autovoice.machine.gpus import gpus, why_none
from autovoice.plan.auto import choice_notes, first_fit
from autovoice.plan.code import tool_version
from autovoice.plan.rules.environment import described, environment
from autovoice.spec import RUNS_HERE, Backend, BackendOrder, Precision
from autovoice.terminal.table import table

#: the compute type that every backend has
_TYPE = "float32"


def run(invocation: Invocation) -> int:
    options, precision, extras = _read(invocation)
    print(f"autovoice {tool_version('autovoice')}, Python {platform.python_version()}, {platform.platform()}")
    found = tools(extras, [b for b in options if isinstance(b, Backend)])
    rows = [(t.name, t.version or "no", t.use, "" if t.version else t.add) for t in found]
    print(table(["tool", "installed", "for", "to add it"], rows))
    print()
    backends = ((f"backend={b.name}", _how(b, precision)) for b in options)
    print(table(["can", "how"], [*backends, *_machine(), *_store(invocation)]))
    return 0


def _read(invocation: Invocation) -> tuple[Sequence[Backend | BackendOrder], Precision, dict[str, str]]:
    """Every option of the group `backend`, the precision, and what the extras are for. Raises ConfigError."""
    reader = BackendReader(invocation.data, invocation.lookup)
    names = invocation.lookup.names("backend")
    options = [reader.named("backend", name, "backend", reader.backend_or_order) for name in names]
    precision = reader.choice(Reader({}, "", reader.faults), "precision", reader.precision)
    r = Reader(invocation.data, "", reader.faults)
    extras = {str(k): str(v) for k, v in r.take("extras", dict, {}, "{name: what it is for}").items()}
    if reader.faults:
        raise ConfigError(reader.faults)
    return sorted(options, key=lambda o: isinstance(o, BackendOrder)), precision, extras


def _how(option: Backend | BackendOrder, precision: Precision) -> str:
    """What a backend needs of this machine, in its own words; of those to choose among, which it would be."""
    if isinstance(option, BackendOrder):
        return choice_notes([first_fit(precision, option)])[0].removeprefix(f"backend {option.name} ")
    try:
        needs = [_stated(k, v) for k, v in (environment(option, _TYPE) or {}).items()]
        return ", ".join([*needs, *described(option)]) or "yes"
    except AutovoiceError as e:
        return f"no: {e.fact}"


def _stated(key: str, value: Any) -> str:
    if key == RUNS_HERE:
        return "which this machine has" if value else "for other machines than this one"
    return f"{key} {' '.join(value) if isinstance(value, list) else value}"


def _machine() -> Iterator[tuple[str, str]]:
    found = gpus()
    if not found:
        yield "NVIDIA GPU", f"no: {why_none()}"
    for gpu in found:
        yield "NVIDIA GPU", f"{gpu.name}, compute capability {gpu.compute_capability}, {gpu.memory / 2**30:.0f} GiB"


def _store(invocation: Invocation) -> Iterator[tuple[str, str]]:
    try:
        invocation.store.prepare()
    except AutovoiceError as e:
        yield "write the store", f"no: {e.fact}; {e.fix}"
        return
    free = shutil.disk_usage(invocation.store.root).free
    yield "write the store", f"{_relative(invocation.store.root)}, {free / 1e9:.0f} GB free"


def _relative(path: Path) -> str:
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
