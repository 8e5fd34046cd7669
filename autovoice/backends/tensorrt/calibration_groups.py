"""Samples of many lengths as a few groups of one shape each: TensorRT calibrates at one shape only.

Samples are cropped along their dynamic axes to the smallest sizes of their group, never padded: zeros at the end would
be in the ranges.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import TYPE_CHECKING

import numpy as np

from autovoice.calibration.samples import SampleChecker
from autovoice.dims.expressions import evaluate, symbols
from autovoice.errors import CalibrationError
from autovoice.spec import POINTS

if TYPE_CHECKING:
    from autovoice.backends.build import Samples
    from autovoice.spec.fields import Profile
    from autovoice.spec.ports import TensorField

#: calibrations of a component with dynamic axes: short, middle and long samples
MOST = 3

#: what an axis is called → its size: of dims, and of arithmetic that does not tell its dims
Sizes = dict[str, int]
Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Group:
    """Samples, by their place in the order they come in, and the shape of each input they are cropped to."""

    places: frozenset[int]
    shapes: Mapping[str, tuple[int, ...]]

    @property
    def profile(self) -> Profile:
        return {name: {point: list(shape) for point in POINTS} for name, shape in self.shapes.items()}

    @property
    def batch(self) -> int:
        """The size of the first axis, where all inputs have the same."""
        first = {shape[0] for shape in self.shapes.values() if shape}
        return first.pop() if len(first) == 1 else 1

    def __str__(self) -> str:
        return ", ".join(f"{name} {list(shape)}" for name, shape in self.shapes.items())


class Grouper:
    """Checks samples against the declared inputs, and groups and crops them within the range of the profiles."""

    def __init__(self, inputs: Mapping[str, TensorField], profiles: Sequence[Profile]) -> None:
        self._axes = {n: tuple(t["shape"]) for n, t in inputs.items()}
        names = {s for shape in self._axes.values() for axis in shape for s in symbols(axis)}
        self._checker = SampleChecker(inputs, {}, names, "the engine")
        ends: list[list[Sizes]] = [[self._sizes({n: p[n][end] for n in inputs}) for p in profiles] for end in _ENDS]
        self._least, self._most = (
            {k: limit(s[k] for s in found) for k in found[0]} for found, limit in zip(ends, (min, max), strict=True)
        )

    def groups(self, samples: Samples) -> list[Group]:
        """At most `MOST`, short ones first. Raises CalibrationError for a sample that does not fit, and for none."""
        sizes = [self._within(name, self._sizes(_shapes(arrays))) for name, arrays in self._checked(samples)]
        if not sizes:
            raise CalibrationError("calibration of the engine: there is no sample at all", "give more data")
        lengths = [sum(self._count(s)) for s in sizes]
        order = sorted(range(len(sizes)), key=lengths.__getitem__)
        return [self._group([order[i] for i in part], sizes) for part in split([lengths[i] for i in order])]

    def cropped(self, group: Group, samples: Samples) -> Iterator[tuple[str, Arrays]]:
        """The group's samples with their names, every input of the group's shape."""
        for place, (name, arrays) in enumerate(self._checked(samples)):
            if place in group.places:
                yield name, {n: _crop(name, n, arrays[n], shape) for n, shape in group.shapes.items()}

    def _checked(self, samples: Samples) -> Iterator[tuple[str, Arrays]]:
        for name, sample in samples():
            yield name, self._checker.checked(name, sample)

    def _sizes(self, shapes: Mapping[str, Sequence[int]]) -> Sizes:
        """The size of every dim that the shapes tell, and of every axis whose dims they do not."""
        found: Sizes = {}
        axes = [(a, n) for name, shape in shapes.items() for a, n in zip(self._axes[name], shape, strict=True)]
        for axis, size in axes:
            if isinstance(axis, str) and axis.isidentifier():
                found[axis] = size
        for axis, size in axes:
            if isinstance(axis, str) and not symbols(axis) <= found.keys():
                found[axis] = size
        return found

    def _within(self, name: str, sizes: Sizes) -> Sizes:
        """Cropped to the profiles' range."""
        for key, size in sizes.items():
            if size < self._least[key]:
                fact = f"calibration of the engine, sample {name}: {key} is {size}, the profile begins at "
                fix = f"samples are never padded: leave it out, or lower dims.{key}.min"
                raise CalibrationError(f"{fact}{self._least[key]}", fix)
        return {key: min(size, self._most[key]) for key, size in sizes.items()}

    def _group(self, places: list[int], sizes: list[Sizes]) -> Group:
        smallest = {key: min(sizes[i][key] for i in places) for key in sizes[places[0]]}
        return Group(frozenset(places), self._shape(smallest))

    def _shape(self, sizes: Sizes) -> dict[str, tuple[int, ...]]:
        return {n: tuple(_size(axis, sizes) for axis in axes) for n, axes in self._axes.items()}

    def _count(self, sizes: Sizes) -> list[int]:
        return [int(np.prod(shape, dtype=np.int64)) for shape in self._shape(sizes).values()]


def split(lengths: Sequence[int], most: int = MOST) -> list[range]:
    """Places in ascending lengths, in as few parts as leave enough when each is cropped to its smallest."""
    steps = [i for i in range(1, len(lengths)) if lengths[i] > lengths[i - 1]]
    if len(steps) > _STEPS:  # near enough: one in so many places to cut at
        steps = [steps[round(i * (len(steps) - 1) / (_STEPS - 1))] for i in range(_STEPS)]

    def left(cuts: Sequence[int]) -> int:
        return sum((b - a) * lengths[a] for a, b in pairwise((0, *cuts, len(lengths))))

    best: tuple[int, ...] = ()
    for cuts in range(1, min(most - 1, len(steps)) + 1):
        if left(best) >= _ENOUGH * sum(lengths):
            break
        best = max(combinations(steps, cuts), key=left)
    return [range(a, b) for a, b in pairwise((0, *best, len(lengths)))]


def _crop(sample: str, name: str, array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    cropped = array[tuple(slice(size) for size in shape)]
    if cropped.shape != shape:
        fact = f"calibration of the engine, sample {sample}: '{name}' has shape {list(array.shape)}"
        raise CalibrationError(fact, f"it cannot be cropped to {list(shape)}, the shortest of its group; leave it out")
    return cropped


def _shapes(arrays: Arrays) -> dict[str, tuple[int, ...]]:
    return {name: array.shape for name, array in arrays.items()}


def _size(axis: str | int, sizes: Sizes) -> int:
    known = sizes.get(axis) if isinstance(axis, str) else None
    return evaluate(axis, sizes) if known is None else known


_ENDS = ("min", "max")
_STEPS = 200
#: cropping may lose the rest of the values
_ENOUGH = 0.95
