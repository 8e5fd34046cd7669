"""`on_mismatch:` what to do where an engine does not fit when it is loaded: fail, rebuild, or run another backend."""

from __future__ import annotations

from typing import TYPE_CHECKING

from autovoice.config.reader import Reader
from autovoice.errors import Fault
from autovoice.spec import FAIL, REBUILD, Backend

if TYPE_CHECKING:
    from autovoice.config.backends import BackendReader

KEY = "on_mismatch"


def read_policy(reader: BackendReader, r: Reader) -> tuple[str, Backend | None]:
    """The component's own policy, else the one of everything, and the backend that it names."""
    policy = reader.shared(r, KEY, str, FAIL, FAIL)
    where = KEY if r.raw(KEY) in (None, reader.data.get(KEY)) else r.path(KEY)
    if policy in (FAIL, REBUILD):
        return policy, None
    node = reader.lookup("backend", policy, where)
    if isinstance(node, Fault):
        fix = f"{FAIL}, {REBUILD}, or a backend: {node.fix}"
        fault = Fault(where, f"unknown policy '{policy}'", fix)
        reader.faults += [fault] if fault not in reader.faults else []
        return FAIL, None
    return policy, reader.named("backend", policy, where, reader.backend)
