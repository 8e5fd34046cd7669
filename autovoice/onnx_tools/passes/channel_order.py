"""Tensors sorted by whether two of them are stored alike or the other way round, as far as that is consistent."""

from __future__ import annotations

from collections.abc import Hashable


class Parity:
    """Disjoint sets in which every member is like, or unlike, the set's first."""

    def __init__(self) -> None:
        self._up: dict[Hashable, tuple[Hashable, bool]] = {}

    def find(self, x: Hashable) -> tuple[Hashable, bool]:
        """The set that `x` is in, and whether it is unlike that set's first."""
        up, unlike = self._up.get(x, (x, False))
        while up != (step := self._up.get(up, (up, False)))[0]:
            up, unlike = step[0], unlike != step[1]
        self._up[x] = (up, unlike)
        return up, unlike

    def join(self, a: Hashable, b: Hashable, unlike: bool) -> bool:
        """Let `a` be like or unlike `b`; False where they are known to be otherwise."""
        (root_a, not_a), (root_b, not_b) = self.find(a), self.find(b)
        if root_a == root_b:
            return (not_a != not_b) == unlike
        self._up[root_a] = (root_b, (not_a != not_b) != unlike)
        return True
