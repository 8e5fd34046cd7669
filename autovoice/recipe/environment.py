"""What engines depend on beside what they are made of: tool versions and GPU, asked of each backend once."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

from autovoice.errors import AutovoiceError, ConfigError, Fault
from autovoice.graph import Graph
from autovoice.spec import RUNS_HERE, Backend, Component


def check_environments(graph: Graph) -> None:
    """Raise ConfigError with every component whose backend cannot build it here, and what to use instead."""
    faults = []
    for c in graph.components:
        for one in _built(c):
            try:
                environment_of(one)
            except AutovoiceError as e:
                faults.append(Fault(f"component.{c.name}.backend", e.fact, e.fix))
    if faults:
        raise ConfigError(faults)


def environment_of(c: Component) -> Mapping[str, Any] | None:
    """None where the backend declares none. Raises BuildError for what cannot be built here."""
    return _asked(repr(c.backend), c.precision.type, _Unhashed(c.backend))


def runs_here(c: Component) -> bool:
    """False for engines that are built for another machine than this one: nothing here can measure them."""
    return all((environment_of(one) or {}).get(RUNS_HERE, True) for one in _built(c))


def implicit(c: Component) -> bool:
    """True where the tool itself chooses what is quantized, by its own calibrator."""
    wanted = c.quantized and c.precision.implicit is not None
    return wanted and bool((environment_of(c) or {}).get("implicit_int8"))


def _built(c: Component) -> Iterator[Component]:
    from autovoice.recipe.component import higher

    settled = c.settled
    yield settled
    if settled.raced:
        yield higher(settled)


class _Unhashed:
    """Carries a backend past the cache, which goes by its text: its options are mappings."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Unhashed)

    def __hash__(self) -> int:
        return 0


@lru_cache(maxsize=64)
def _asked(_: str, precision: str, carried: _Unhashed) -> Mapping[str, Any] | None:
    backend = carried.backend
    if backend.environment is None:
        return None
    module, _, name = backend.environment.rpartition(".")
    try:
        function = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as e:
        where = f"backend.environment: '{backend.environment}' cannot be imported: {e}"
        raise ConfigError([Fault("backend", where, "package.module.function")]) from e
    found: Mapping[str, Any] = function(backend, precision)
    return found
