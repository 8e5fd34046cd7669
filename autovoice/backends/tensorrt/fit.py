"""The optimization profile that holds the shapes of a call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from autovoice.backends.tensorrt.loaded import Shapes, Spec
from autovoice.errors import FeedError


class Range(NamedTuple):
    """The least and the greatest shapes of a profile, in the order of the inputs."""

    least: Shapes
    most: Shapes

    def holds(self, shapes: Shapes) -> bool:
        return all(
            low <= size <= high
            for axes in zip(self.least, shapes, self.most, strict=True)
            for low, size, high in zip(*axes, strict=True)
        )


class Profiles:
    """The profiles of an engine, in its order. An input that a profile does not name has one shape only."""

    def __init__(self, inputs: Sequence[Spec], profiles: Sequence[Mapping[str, Any]]) -> None:
        self._inputs = tuple(inputs)
        self.ranges = tuple(self._range(p) for p in (profiles or [{}]))

    def _range(self, profile: Mapping[str, Any]) -> Range:
        def corner(name: str) -> Shapes:
            return tuple(tuple(profile[s.name][name]) if s.name in profile else s.shape for s in self._inputs)

        return Range(corner("min"), corner("max"))

    def index(self, shapes: Shapes) -> int:
        """The first profile that holds them all. Raises FeedError for what none holds."""
        for spec, shape in zip(self._inputs, shapes, strict=True):
            if len(shape) != len(spec.shape):
                wanted = "×".join(str(a) if a >= 0 else "?" for a in spec.shape) or "a scalar"
                raise FeedError(f"input '{spec.name}' has {len(shape)} axes {shape}", f"the engine takes {wanted}")
        for i, r in enumerate(self.ranges):
            if r.holds(shapes):
                return i
        raise self._outside(shapes)

    def _outside(self, shapes: Shapes) -> FeedError:
        for i, (spec, shape) in enumerate(zip(self._inputs, shapes, strict=True)):
            for axis, size in enumerate(shape):
                spans = [(r.least[i][axis], r.most[i][axis]) for r in self.ranges]
                if not any(low <= size <= high for low, high in spans):
                    return FeedError(
                        f"input '{spec.name}', axis {axis}: {size} is in no profile of this engine",
                        f"profiles: {', '.join(_span(s) for s in dict.fromkeys(spans))}; set dims.*.max and rebuild",
                    )
        given = ", ".join(f"'{s.name}' {shape}" for s, shape in zip(self._inputs, shapes, strict=True))
        ranges = "; ".join(f"{r.least} to {r.most}" for r in self.ranges)
        return FeedError(f"no one profile holds {given}", f"profiles: {ranges}")


def _span(span: tuple[int, int]) -> str:
    return str(span[0]) if span[0] == span[1] else f"{span[0]} to {span[1]}"


class Fit(NamedTuple):
    """What follows from the shapes of the inputs."""

    profile: int
    outputs: Shapes
