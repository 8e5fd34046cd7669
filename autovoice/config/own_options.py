"""`options:` of a component: what it asks of a backend's tool for itself, by the backend's name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from autovoice.config.reader import Reader
from autovoice.errors import Fault, nearest

if TYPE_CHECKING:
    from autovoice.config.choices import ChoiceReader


def read_options(reader: ChoiceReader, r: Reader) -> dict[str, dict[str, Any]]:
    """The node `options: {tensorrt: {max_aux_streams: 2}}`: names of backends, and keys that their `options` list."""
    found: dict[str, dict[str, Any]] = {}
    for name, own in r.children("options"):
        node = reader.lookup("backend", name, own.where)
        if isinstance(node, Fault):
            reader.faults.append(node)
            continue
        known = Reader(node, f"backend/{name}", reader.faults).take("options", dict, {})
        for key in own.data.keys() - known.keys():
            own.fault(key, f"{name} has no option '{key}'", nearest(str(key), known))
        found[name] = {key: value for key, value in own.data.items() if key in known}
    return found
