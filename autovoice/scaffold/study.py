"""A network studied by running it: sizes that it takes, and how its outputs' sizes follow from its inputs'."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from autovoice.dims.expressions import evaluate
from autovoice.dims.fitting import formula_of
from autovoice.errors import AutovoiceError, first_line
from autovoice.scaffold.subject import Subject
from autovoice.terminal.overrides import setting

Sizes = dict[str, int]
#: where to look for sizes that a network takes at all, the likely ones first
_STARTS = (32, 64, 100, 128, 16, 8, 256, 512, 1024, 4096, 16000, 32000, 4, 2, 1)
_LEAST = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32, 48, 64, 96, 128, 160, 256, 320, 512, 640, 1024, 2048, 4096, 8192)
_MULTIPLES = (2, 3, 4, 5, 8, 10, 12, 16, 20, 32, 40, 64, 80, 100, 128, 160, 200, 256, 320, 480, 512, 640)
#: at how many sizes beside the first each dim is looked at
_STRIDES = (1, 2, 3, 5, 8, 13)
#: seconds to look for sizes that run, and of one run from which on fewer sizes are looked at
_SEARCH, _SLOW = 60.0, 0.5
#: a dim is not tried beyond this to see an output vary
_LARGEST = 1 << 18
#: names of waveforms, and a second of one
_SOUND, _SECOND = ("sample", "audio", "wav", "speech"), 16000
BATCH = ("batch", "batch_size", "n", "b", "bs")


@dataclass(frozen=True)
class Span:
    """The sizes of a dim: proposals but for `min` and `multiple`, which were tried."""

    min: int
    opt: int
    max: int
    multiple: int


@dataclass(frozen=True)
class Studied:
    """`inputs` and `outputs` are {local name: {dtype, shape}}, shapes over the names of `dims`.

    `whole` is what every integer was while the network ran. `odd` are outputs that were not finite on noise.
    """

    dims: Mapping[str, Span]
    inputs: Mapping[str, dict[str, Any]]
    outputs: Mapping[str, dict[str, Any]]
    whole: int
    odd: Sequence[str] = ()


def study(subject: Subject, given: Mapping[str, int]) -> Studied:
    """`given` are sizes that are known to run. Raises AutovoiceError where nothing runs, or a size follows no rule."""
    return _Study(subject, given).result()


class _Study:
    def __init__(self, subject: Subject, given: Mapping[str, int]) -> None:
        self.subject = subject
        self.names = list(dict.fromkeys(a for d in subject.inputs.values() for a in d.axes if isinstance(a, str)))
        leading = {d.axes[0] for d in subject.inputs.values() if d.axes}
        inner = {a for d in subject.inputs.values() for a in d.axes[1:]}
        self.batch = {n for n in self.names if n not in inner and (n.lower() in BATCH or leading == {n})}
        self.given = {n: given[n] for n in self.names if n in given}
        self.tied: dict[str, str] = {}
        self.whole = 1
        self.shapes: dict[str, Sequence[str | int]] = {}
        self.error: Exception | None = None
        self.seconds = 0.0

    def result(self) -> Studied:
        base = self._base()
        self._tie(base)
        free = {n: s for n, s in base.items() if n not in self.tied}
        multiples = {n: self._multiple(free, n) for n in free}
        self._check_values(free)
        observed = self._observed(free, multiples)
        while (
            free
            and self._still(observed)
            and self.run(larger := {n: s if n in self.batch else 4 * s for n, s in free.items()})
        ):
            if max(larger.values()) > _LARGEST:
                break
            free, observed = larger, self._observed(larger, multiples)
        first = observed[0][1]
        outputs = {
            name: {"dtype": str(value.dtype), "shape": self._shape(name, observed)} for name, value in first.items()
        }
        self.shapes = {name: tensor["shape"] for name, tensor in outputs.items()}
        dims = {n: self._span(free, n, multiples[n]) for n in free}
        inputs = {
            name: {"dtype": d.dtype, "shape": [self.tied.get(str(a), a) for a in d.axes]}
            for name, d in self.subject.inputs.items()
        }
        odd = [n for n, value in first.items() if value.dtype.kind == "f" and not np.isfinite(value).all()]
        return Studied(dims, inputs, outputs, self.whole, odd)

    def _observed(self, base: Sizes, multiples: Mapping[str, int]) -> list[tuple[Sizes, dict[str, np.ndarray]]]:
        found = [(sizes, got) for sizes in self._around(base, multiples) if (got := self.run(sizes))]
        for name, step in multiples.items():
            found += () if name in self.batch else self._edges(base, name, step)
        return found

    def _edges(self, base: Sizes, name: str, step: int) -> Iterator[tuple[Sizes, dict[str, np.ndarray]]]:
        """The sizes between which outputs grow, one dim growing, at two places: they tell a stride and its shift."""
        for start in (base[name], 3 * base[name]):
            still = _shapes(self.run(base | {name: start}))
            low, high = 0, base[name] // step
            if still is None or _shapes(self.run(base | {name: start + high * step})) in (None, still):
                continue
            while high - low > 1:
                middle = (low + high) // 2
                got = _shapes(self.run(base | {name: start + middle * step}))
                low, high = (middle, high) if got in (None, still) else (low, middle)
            for n in (low, high):
                if got_there := self.run(sizes := base | {name: start + n * step}):
                    yield sizes, got_there

    def _still(self, observed: list[tuple[Sizes, dict[str, np.ndarray]]]) -> bool:
        """True where an axis that the network declares to vary was one size throughout: larger ones may show more."""
        return any(len({got[name].shape[i] for _, got in observed}) == 1 for name, i in self.subject.varying)

    def _check_values(self, base: Sizes) -> None:
        """Raise AutovoiceError where other inputs of the same sizes give outputs of other sizes."""
        for seed in (1, 2):
            one, other = self.run(base), self.run(base, seed)
            if one is None or other is None or _shapes(one) == _shapes(other):
                continue
            name = next(n for n in one if one[n].shape != other[n].shape)
            fact = f"{self.subject.name}: the size of output '{name}' depends on values, not on the inputs' sizes alone"
            raise AutovoiceError(fact, "cut the network before it, or give that size as an input")

    def run(self, sizes: Mapping[str, int], seed: int = 0) -> dict[str, np.ndarray] | None:
        """Answers to seeded inputs of these sizes; None where the network does not take them."""
        full = dict(sizes) | {n: sizes[first] for n, first in self.tied.items()}
        rng, feeds = np.random.default_rng(seed), {}
        for name, d in self.subject.inputs.items():
            shape = [a if isinstance(a, int) else full[a] for a in d.axes]
            values, dtype = rng.standard_normal(shape), np.dtype(d.dtype)
            if dtype.kind == "f":
                feeds[name] = values.astype(dtype)
            else:
                feeds[name] = (
                    np.asarray(values > 0)
                    if dtype.kind == "b"
                    else np.full(shape, self.whole + (seed and len(shape) > 0), dtype)
                )
        started = time.monotonic()
        try:
            return self.subject.run(feeds)
        except Exception as e:  # a network refuses sizes in whatever way it likes; the last reason is kept
            self.error = e
            return None
        finally:
            self.seconds = max(self.seconds, time.monotonic() - started)

    def _base(self) -> Sizes:
        """Sizes that run: each dim another where that goes, else all alike."""
        started = time.monotonic()
        for self.whole in (1, 0):
            for sizes in self._starts():
                if self.run(sizes) is not None:
                    return sizes
                if time.monotonic() - started > _SEARCH:
                    break
        assert self.error is not None
        fact = f"{self.subject.name}: runs at none of the sizes tried: {first_line(self.error)}"
        known = setting("sizes", dict.fromkeys(self.names, 100)) if self.names else "see its words"
        raise AutovoiceError(fact, f"give sizes at which it runs: {known}")

    def _starts(self) -> Iterator[Sizes]:
        others = [n for n in self.names if n not in self.batch and n not in self.given]
        sound = any(word in name.lower() for word in _SOUND for name in (*self.names, *self.subject.inputs))
        starts = (_SECOND, *_STARTS) if sound else _STARTS
        for start in starts if others else starts[:1]:
            for step in (3, 0) if len(others) > 1 else (0,):
                for batch in (2, 1):
                    sizes = {n: batch for n in self.names} | {n: start + step * i for i, n in enumerate(others)}
                    yield sizes | self.given

    def _tie(self, base: Sizes) -> None:
        """Dims that only run where they are equal become one: the first of them."""
        for i, name in enumerate(self.names):
            if name in self.tied or self.run(base | {name: base[name] + 1}) or self.run(base | {name: 2 * base[name]}):
                continue
            for other in self.names[i + 1 :]:
                both = {name: 2 * base[name], other: 2 * base[name]}
                if base[other] == base[name] and other not in self.tied and self.run(base | both):
                    self.tied[other] = name

    def _multiple(self, base: Sizes, name: str) -> int:
        """The step in which a size must grow: 1 almost everywhere."""
        if self.run(base | {name: base[name] + 1}):
            return 1
        return next((m for m in _MULTIPLES if base[name] % m == 0 and self.run(base | {name: base[name] + m})), 1)

    def _around(self, base: Sizes, multiples: Mapping[str, int]) -> Iterator[Sizes]:
        yield base
        for name, size in base.items():
            for step in _STRIDES[:1] if name in self.batch or self.seconds > _SLOW else _STRIDES:
                yield base | {name: size + step * multiples[name]}
            yield base | {name: 2 * size}
            yield base | {name: 3 * size}
        yield {n: 2 * s for n, s in base.items()}

    def _shape(self, name: str, observed: list[tuple[Sizes, dict[str, np.ndarray]]]) -> list[str | int]:
        shape: list[str | int] = []
        for axis in range(observed[0][1][name].ndim):
            formula = formula_of([(sizes, got[name].shape[axis]) for sizes, got in observed])
            if formula is None:
                seen = ", ".join(f"{got[name].shape[axis]} at {sizes}" for sizes, got in observed[:3])
                fact = f"{self.subject.name}: the size of output '{name}', axis {axis}, follows no simple rule: {seen}"
                raise AutovoiceError(fact, "a size must follow from the inputs' sizes; it may depend on their values")
            shape.append(formula)
        return shape

    def _span(self, base: Sizes, name: str, multiple: int) -> Span:
        """`min` is the least that runs; `opt` and `max` are proposals, the latter tried."""
        tried = [base[name] % multiple + multiple * k for k in range(1, 4)] if multiple > 1 else []
        least = next(
            (n for n in (*tried, *_LEAST) if n <= base[name] and self._takes(base, name, n, multiple)), base[name]
        )
        if name in self.batch:
            return Span(least, max(least, 1), max(least, 4), multiple)
        opt = max(base[name], least)
        most = next((opt * k for k in (8, 4, 2) if self.run(base | {name: opt * k})), opt)
        return Span(least, opt, most, multiple)

    def _takes(self, base: Sizes, name: str, size: int, multiple: int) -> bool:
        """True where it runs, and its outputs have the sizes that were found: below a stride many fill up."""
        sizes = base | {name: size}
        got = self.run(sizes) if size >= 1 and (base[name] - size) % multiple == 0 else None
        return got is not None and all(
            list(value.shape) == [evaluate(axis, sizes) for axis in self.shapes[n]] and value.size > 0
            for n, value in got.items()
        )


def _shapes(got: Mapping[str, np.ndarray] | None) -> list[tuple[int, ...]] | None:
    return None if got is None else [a.shape for a in got.values()]
