"""The environment of an engine, asked of each backend once: tool versions and GPU."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from autovoice.errors import AutovoiceError, ConfigError, Fault
from autovoice.graph.wiring import Graph
from autovoice.spec import RUNS_HERE, Backend, Component, EngineVariant
from autovoice.terminal.overrides import override, written

_OPTION = re.compile(r"backend\.options\.(\w+)")
_ANSWERS: dict[str, Mapping[str, Any] | None] = {}


def check_environments(graph: Graph) -> None:
    """Raise ConfigError with every component whose backend cannot build it here, and what to use instead."""
    faults = []
    for c in graph.components:
        refused = [f for v in timed(c) for f in _refused(v, "backend")]
        faults += [*refused, *(_refused(c.fallback_engine, "on_mismatch") if c.fallback_engine else ())]
        if not refused:  # what follows asks the same environment
            faults += [*_uneven(c), *_unsampled(c)]
    faults = faults or [f for c in graph.components for f in _untimed(c)]
    if faults:
        raise ConfigError(faults)


def _refused(v: EngineVariant, key: str) -> Iterator[Fault]:
    """Why its backend cannot build it here; an option that the component set itself is reported as that."""
    c = v.component
    try:
        environment_of(v)
    except AutovoiceError as e:
        named = _OPTION.match(e.fact)
        if named and named[1] in c.options.get(v.backend.name, {}):
            fact = e.fact[named.end() :].removeprefix(": ")
            yield Fault(f"{c.place}.options.{v.backend.name}.{named[1]}", fact, e.fix)
        else:
            yield Fault(f"{c.place}.{key}", e.fact, e.fix)


def _untimed(c: Component) -> Iterator[Fault]:
    """The faster of two builds is known where both can run."""
    if c.baseline and c.only_if_faster and not all(map(runs_here, timed(c))):
        fact = f"engines of {c.backend.name} for another machine than this one cannot be timed here"
        yield Fault(f"{c.place}.only_if_faster", fact, "only_if_faster=false, or build on the machine that runs them")


def _uneven(c: Component) -> Iterator[Fault]:
    """A tool that calibrates for itself is fed once, with samples of the whole."""
    used = [m.calibration for m in c.members if m.quantized]
    if any(u != used[0] for u in used) and implicit(c.primary):
        fact = f"its members differ in calibration: {', '.join(dict.fromkeys(u.name for u in used))}"
        node = {"members": [m.name for m in c.members], "calibration": used[0].name}
        yield Fault(c.place, fact, override(c.place, written(node)))


def _unsampled(c: Component) -> Iterator[Fault]:
    """What calibrates for itself needs samples or a cache of its own, what does not, whatever gives ranges."""
    where, given = f"{c.place}.calibration", c.calibration
    if not c.quantized or c.precision.implicit is None:
        return
    fix = "calibration=npz calibration.files=data.npz"
    if not implicit(c.primary) and (given.source, given.calibrator, given.ranges) == (None, None, None):
        fact = f"{c.backend.name} reads no calibration cache, and '{given.name}' has no data"
        yield Fault(where, fact, fix)
    if implicit(c.primary) and c.precision.implicit.cache is None and given.source is None:
        fact = f"{c.precision.name} calibrates on samples, '{given.name}' has ranges alone"
        yield Fault(where, fact, f"precision=int8 takes ranges; or {fix}")


def environment_of(v: EngineVariant) -> Mapping[str, Any] | None:
    """None where the backend declares none, or it says nothing. Raises BuildError for what cannot be built here."""
    return environment(v.backend, v.precision.type)


def environment(backend: Backend, precision: str) -> Mapping[str, Any] | None:
    """The same for whatever is built by a backend in a compute type; asked once, which may take as long as a driver."""
    key = repr((backend, precision))  # options are mappings, which cannot be hashed
    if key not in _ANSWERS:  # an error is no answer: it is raised anew
        _ANSWERS[key] = _asked(backend, precision)
    return _ANSWERS[key]


def runs_here(v: EngineVariant) -> bool:
    """False for an engine that is built for another machine than this one: nothing here can measure it."""
    return bool((environment_of(v) or {}).get(RUNS_HERE, True))


def implicit(v: EngineVariant) -> bool:
    """True where the tool itself chooses what is quantized, by its own calibrator."""
    wanted = v.quantized and v.precision.implicit is not None
    return wanted and bool((environment_of(v) or {}).get("implicit_int8"))


def timed(c: Component) -> tuple[EngineVariant, ...]:
    """Its engine, and the one that it is timed against where there is one."""
    return (c.primary, c.baseline) if c.baseline else (c.primary,)


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
