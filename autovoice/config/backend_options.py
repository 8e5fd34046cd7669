"""`options:` of a component: what it asks of a backend's tool for itself, by the backend's name."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Any

from autovoice.config.reader import Reader
from autovoice.errors import nearest
from autovoice.spec import Backend


def read_options(
    r: Reader, backends: Iterable[Backend], every: Callable[[], Collection[str]]
) -> dict[str, dict[str, Any]]:
    """The node `options: {tensorrt: {max_aux_streams: 2}}`.

    Which options there are is known of `backends` alone, of the others among `every` only that they exist.
    """
    listed = {b.name: b.options for b in backends}
    found: dict[str, dict[str, Any]] = {}
    for name, own in r.children("options", "{option: value}", "tensorrt"):
        if name not in listed and name not in every():
            own.fault("", f"unknown backend '{name}'", nearest(name, every()))
        for key in (k for k in own.data if k not in listed.get(name, own.data)):
            own.fault(key, f"{name} has no option '{key}'", nearest(key, listed[name]))
        found[name] = own.data
    return found
