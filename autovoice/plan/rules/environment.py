"""What engines depend on beside what they are made of: tool versions and GPU, asked of each backend once."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from autovoice.errors import AutovoiceError, ConfigError, Fault
from autovoice.graph.wiring import Graph
from autovoice.spec import RUNS_HERE, Backend, Component
from autovoice.terminal.overrides import override, written

_OPTION = re.compile(r"backend\.options\.(\w+)")
_ANSWERS: dict[str, Mapping[str, Any] | None] = {}


def check_environments(graph: Graph) -> None:
    """Raise ConfigError with every component whose backend cannot build it here, and what to use instead."""
    faults = []
    for c in graph.components:
        refused = [f for one in variants(c) for f in _refused(one, "backend")]
        faults += [*refused, *(_refused(c.stand_in, "on_mismatch") if c.stand_in else ())]
        if not refused:  # what follows asks the same environment
            faults += [*_uneven(c), *_unsampled(c)]
    faults = faults or [f for c in graph.components for f in _untimed(c)]
    if faults:
        raise ConfigError(faults)


def _refused(c: Component, key: str) -> Iterator[Fault]:
    """Why its backend cannot build it here; an option that the component set itself is told as that."""
    try:
        environment_of(c)
    except AutovoiceError as e:
        named = _OPTION.match(e.fact)
        if named and named[1] in c.options.get(c.backend.name, {}):
            fact = e.fact[named.end() :].removeprefix(": ")
            yield Fault(f"{c.place}.options.{c.backend.name}.{named[1]}", fact, e.fix)
        else:
            yield Fault(f"{c.place}.{key}", e.fact, e.fix)


def _untimed(c: Component) -> Iterator[Fault]:
    """The faster of two builds is known where both can run."""
    if c.settled.raced and c.only_if_faster and not runs_here(c):
        fact = f"engines of {c.backend.name} for another machine than this one cannot be timed here"
        yield Fault(f"{c.place}.only_if_faster", fact, "only_if_faster=false, or build on the machine that runs them")


def _uneven(c: Component) -> Iterator[Fault]:
    """A tool that calibrates for itself is fed once, with samples of the whole."""
    used = [m.calibration for m in c.members if m.quantized]
    if any(u != used[0] for u in used) and implicit(c):
        fact = f"its members differ in calibration: {', '.join(dict.fromkeys(u.name for u in used))}"
        node = {"members": [m.name for m in c.members], "calibration": used[0].name}
        yield Fault(c.place, fact, override(c.place, written(node)))


def _unsampled(c: Component) -> Iterator[Fault]:
    """What calibrates for itself needs samples or a cache of its own, what does not, whatever gives ranges."""
    where, given = f"{c.place}.calibration", c.calibration
    if not c.quantized or c.precision.implicit is None:
        return
    fix = "calibration=npz calibration.files=data.npz"
    if not implicit(c) and given.source is given.calibrator is given.ranges is None:
        fact = f"{c.backend.name} reads no calibration cache, and '{given.name}' has no data"
        yield Fault(where, fact, fix)
    if implicit(c) and c.precision.implicit.cache is None and given.source is None:
        fact = f"{c.precision.name} calibrates on samples, '{given.name}' has ranges alone"
        yield Fault(where, fact, f"precision=int8 takes ranges; or {fix}")


def environment_of(c: Component) -> Mapping[str, Any] | None:
    """None where the backend declares none, or it says nothing. Raises BuildError for what cannot be built here."""
    return environment(c.backend, c.precision.type)


def environment(backend: Backend, precision: str) -> Mapping[str, Any] | None:
    """The same for whatever is built by a backend in a compute type; asked once, which may take as long as a driver."""
    key = repr((backend, precision))  # options are mappings, which cannot be hashed
    if key not in _ANSWERS:  # an error is no answer: it is raised anew
        _ANSWERS[key] = _asked(backend, precision)
    return _ANSWERS[key]


def runs_here(c: Component) -> bool:
    """False for engines that are built for another machine than this one: nothing here can measure them."""
    return all((environment_of(one) or {}).get(RUNS_HERE, True) for one in variants(c))


def implicit(c: Component) -> bool:
    """True where the tool itself chooses what is quantized, by its own calibrator."""
    wanted = c.quantized and c.precision.implicit is not None
    return wanted and bool((environment_of(c) or {}).get("implicit_int8"))


def variants(c: Component) -> Iterator[Component]:
    """As what the component is built: its own precision, and the one it is timed against."""
    settled = c.settled
    yield settled
    if settled.raced:
        yield settled.compared


def _asked(backend: Backend, precision: str) -> Mapping[str, Any] | None:
    if backend.environment is None:
        return None
    found: Mapping[str, Any] | None = _function("environment", backend.environment)(backend, precision)
    return found


def described(backend: Backend) -> tuple[str, ...]:
    """What it says of this machine, if it has words for that: it may import its tool. Raises BuildError without it."""
    return () if backend.describe is None else (str(_function("describe", backend.describe)(backend)),)


def _function(key: str, path: str) -> Callable[..., Any]:
    module, _, name = path.rpartition(".")
    try:
        function: Callable[..., Any] = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as e:
        where = f"backend.{key}: '{path}' cannot be imported: {e}"
        raise ConfigError([Fault("backend", where, "package.module.function")]) from e
    return function
