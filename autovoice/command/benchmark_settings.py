"""The node `benchmark:` of a configuration: sizes to time at, how often, and against what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from autovoice.command.invocation import Invocation
from autovoice.config.reader import Reader
from autovoice.config.schema import SpecReader
from autovoice.errors import ConfigError, Fault, nearest
from autovoice.plan.rules.baseline import Baseline
from autovoice.spec import Dim


@dataclass(frozen=True)
class Settings:
    """Sizes of dims to time at, how often, and against what."""

    sizes: tuple[dict[str, int], ...]
    warm_up: int
    runs: int
    against: tuple[Baseline, ...]


def read_benchmark(invocation: Invocation) -> Settings:
    """Raises ConfigError with every fault."""
    faults: list[Fault] = []
    r = Reader(invocation.data.get("benchmark") or {}, "benchmark", faults, "{runs: 100}")
    dims = invocation.graph.dims
    chosen = {}
    for name, values in r.take("sizes", dict, {}, "{frames: [128, 512]}").items():
        values = values if isinstance(values, list) else [values]
        _check_sizes(r, str(name), values, dims)
        chosen[str(name)] = values
    sizes = tuple(dict(zip(chosen, row, strict=True)) for row in product(*chosen.values()))
    warm_up, runs = r.take("warm_up", int, 5), r.take("runs", int, 100)
    if min(warm_up, runs) < 1:
        r.fault("runs", f"warm_up {warm_up}, runs {runs}", "at least 1 of each")
    reader = SpecReader(invocation.data, invocation.lookup)
    against = tuple(
        _baseline(reader, name, c) for name, c in r.children("against", "{backend: torch, precision: fp32}")
    )
    r.done()
    if faults + reader.faults:
        raise ConfigError([*faults, *reader.faults])
    return Settings(sizes, warm_up, runs, against)


def _check_sizes(r: Reader, name: str, values: Sequence[Any], dims: Mapping[str, Dim]) -> None:
    if name not in dims or dims[name].formula is not None:
        free = [n for n, d in dims.items() if d.formula is None]
        r.fault(f"sizes.{name}", f"there is no free dim '{name}'", nearest(name, free))
        return
    low, high = dims[name].min, dims[name].max
    for v in values:
        if type(v) is not int or not low <= v <= high:
            r.fault(f"sizes.{name}", f"{v!r} is outside the built profile {low} … {high}", f"dims.{name}.max=…")


def _baseline(reader: SpecReader, name: str, r: Reader) -> Baseline:
    backend, precision = r.take("backend", str), r.take("precision", str)
    made = Baseline(
        name,
        reader.named("backend", backend, r.path("backend"), reader.backend),
        reader.named("precision", precision, r.path("precision"), reader.precision),
        r.take("session", dict, {}),
    )
    if made.precision.quantize is not None:
        r.fault("precision", f"{precision} needs calibration", "a floating point precision; or build it, by precision=")
    r.done()
    return made
