"""Statistics of activations over samples, streamed: memory does not grow with their number.

Extrema are reduced inside the graph, so that two numbers a tensor leave it. Histograms have bins of a width that
is a power of two and doubles when a value falls outside: bins then merge in pairs, so that the counts depend on
the values alone, not on their order, nor on how samples were shared among processes.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
from onnx import helper

from autovoice.errors import CalibrationError, first_line
from autovoice.onnx_tools.graph import free_name, names_within
from autovoice.onnx_tools.guard import guarded
from autovoice.onnx_tools.ort import float_session

#: bins on each side of zero; a tensor's largest magnitude always falls into the upper half of them
HALF = 2048
#: the sum is there for NaN, which ONNX Runtime's extrema skip
_REDUCTIONS = (("min", "ReduceMin"), ("max", "ReduceMax"), ("sum", "ReduceSum"))
_SMALLEST = -149  # the exponent of float32's smallest number


@dataclass
class Histogram:
    """Counts of values in bins [i·2^exponent, (i+1)·2^exponent), i from -HALF to HALF-1."""

    exponent: int = _SMALLEST
    counts: np.ndarray = field(default_factory=lambda: np.zeros(2 * HALF, np.int64))

    def add(self, values: np.ndarray) -> None:
        """Count finite values of any shape."""
        self.widen(_exponent(float(np.abs(values).max(initial=0.0))))
        bins = np.floor(np.ldexp(values.ravel().astype(np.float64), -self.exponent)).astype(np.int64)
        self.counts += np.bincount(bins + HALF, minlength=2 * HALF)

    def merge(self, other: Histogram) -> None:
        exponent = max(self.exponent, other.exponent)
        mine, theirs = self.widened(exponent), other.widened(exponent)
        self.exponent, self.counts = exponent, mine + theirs

    def widen(self, exponent: int) -> None:
        if exponent > self.exponent:
            self.exponent, self.counts = exponent, self.widened(exponent)

    def widened(self, exponent: int) -> np.ndarray:
        """The counts at a larger exponent: 2^n neighbouring bins become one."""
        steps = min(exponent - self.exponent, HALF.bit_length())
        if steps == 0:
            return self.counts
        index = (np.arange(-HALF, HALF) >> steps) + HALF
        return np.bincount(index, self.counts, 2 * HALF).astype(np.int64)

    def edges(self) -> np.ndarray:
        """The 2·HALF+1 edges of the bins."""
        return np.ldexp(np.arange(-HALF, HALF + 1, dtype=np.float64), self.exponent)


def _exponent(largest: float) -> int:
    """The smallest exponent at which `largest` lies inside the bins."""
    if largest == 0:
        return _SMALLEST
    return max(_SMALLEST, math.frexp(largest)[1] - (HALF.bit_length() - 1))


@dataclass
class Observed:
    """What was seen of each tensor: its smallest and largest value, and, where wanted, a histogram."""

    samples: int = 0
    low: dict[str, float] = field(default_factory=dict)
    high: dict[str, float] = field(default_factory=dict)
    histograms: dict[str, Histogram] = field(default_factory=dict)

    def extend(self, name: str, low: float, high: float) -> None:
        self.low[name] = min(low, self.low.get(name, low))
        self.high[name] = max(high, self.high.get(name, high))

    def merge(self, other: Observed) -> None:
        self.samples += other.samples
        for name in other.low:
            self.extend(name, other.low[name], other.high[name])
        for name, histogram in other.histograms.items():
            self.histograms.setdefault(name, Histogram()).merge(histogram)


def observe(
    model: Path,
    tensors: Sequence[str],
    counted: Collection[str],
    samples: Iterable[tuple[str, Mapping[str, np.ndarray]]],
) -> Observed:
    """Run the model over (name, feeds) and look at `tensors`; those `counted` also get a histogram.

    Raises CalibrationError for a sample that the model cannot run, or that makes a value which is not finite.
    """
    found = Observed()
    watching, reduced = onnx.load(model), [t for t in tensors if t not in counted]
    made = _watching(watching, reduced, counted)
    with guarded(
        "onnxruntime", "its values cannot be observed: give ranges, or leave it in floating point", CalibrationError
    ):
        session = float_session(watching)
    names = [*made, *counted]
    for name, feeds in samples:
        try:
            values = session.run(names, dict(feeds)) if names else []
        except Exception as e:  # onnxruntime raises a class of its own per status code, all plain Exceptions
            raise CalibrationError(f"sample {name}: the model cannot run it", first_line(e)) from e
        found.samples += 1
        wide = len(_REDUCTIONS)
        seen = {t: [float(v) for v in values[wide * i : wide * (i + 1)]] for i, t in enumerate(reduced)}
        for tensor, value in zip(counted, values[wide * len(reduced) :], strict=True):
            seen[tensor] = [float(value.min()), float(value.max()), 0.0]
        for tensor in tensors:
            _extend(found, name, tensor, *seen[tensor])
        for tensor, value in zip(counted, values[wide * len(reduced) :], strict=True):
            found.histograms.setdefault(tensor, Histogram()).add(value)
    return found


def _extend(found: Observed, sample: str, tensor: str, low: float, high: float, total: float) -> None:
    if not (math.isfinite(low) and math.isfinite(high)) or math.isnan(total):
        fact = f"sample {sample}: '{tensor}' has values that are not finite"
        raise CalibrationError(fact, "padding that is masked by -inf does this: give samples unpadded, one at a time")
    found.extend(tensor, low, high)


def _watching(model: onnx.ModelProto, reduced: Sequence[str], counted: Collection[str]) -> list[str]:
    """Let the model also give tensors reduced, or as they are where `counted`; the names of the reductions."""
    graph, made = model.graph, []
    known, taken = {o.name for o in graph.output}, set(names_within(graph))
    graph.output.extend(onnx.ValueInfoProto(name=t) for t in counted if t not in known)  # of whatever type they have
    for tensor in reduced:
        for kind, op in _REDUCTIONS:
            name = free_name(f"{tensor}__{kind}", taken)
            graph.node.append(helper.make_node(op, [tensor], [name], f"{name}_reduce", keepdims=0))
            graph.output.append(onnx.ValueInfoProto(name=name))
            made.append(name)
    return made


def observed_arrays(found: Observed) -> dict[str, np.ndarray]:
    """As plain arrays, for a file."""
    names, counted = sorted(found.low), sorted(found.histograms)
    return {
        "samples": np.array([found.samples]),
        "tensors": np.array(names, np.str_),
        "extrema": np.array([[found.low[n], found.high[n]] for n in names], np.float64).reshape(-1, 2),
        "counted": np.array(counted, np.str_),
        "exponents": np.array([found.histograms[n].exponent for n in counted], np.int64),
        "counts": np.array([found.histograms[n].counts for n in counted], np.int64).reshape(-1, 2 * HALF),
    }


def observed_from(arrays: Mapping[str, np.ndarray]) -> Observed:
    low = {str(n): float(e[0]) for n, e in zip(arrays["tensors"], arrays["extrema"], strict=True)}
    high = {str(n): float(e[1]) for n, e in zip(arrays["tensors"], arrays["extrema"], strict=True)}
    histograms = {
        str(n): Histogram(int(e), c)
        for n, e, c in zip(arrays["counted"], arrays["exponents"], arrays["counts"], strict=True)
    }
    return Observed(int(arrays["samples"][0]), low, high, histograms)
