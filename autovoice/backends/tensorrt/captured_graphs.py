"""Lanes: recorded runs of an engine, one for each set of input shapes and addresses that comes again.

TensorRT wants an execution context for each graph; all share the arena's activation memory.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any

from autovoice.backends.cuda.array import DeviceArray
from autovoice.backends.cuda.stream import Graph
from autovoice.backends.tensorrt.execution import Execution

#: how many keys that came once are kept in mind, and how many ways to sign the feeds of one lane
_SEEN, _SIGNS = 64, 8
#: how many keys may fail to be recorded before recording is given up
FAILURES = 8


@dataclass(slots=True)
class CapturedGraph:
    """A graph, what it was recorded from, and where its answers are."""

    key: Hashable
    execution: Execution
    graph: Graph
    outputs: dict[str, DeviceArray]
    raw: Any
    used: int = 0
    signs: list[Hashable] = field(default_factory=list)


class CapturedGraphs:
    """The lanes used last, at most `limit`, by key and by the signs of their feeds."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.by_sign: dict[Hashable, CapturedGraph] = {}
        self.failed: set[Hashable] = set()
        self._by_key: dict[Hashable, CapturedGraph] = {}
        self._seen: dict[Hashable, None] = {}

    def __len__(self) -> int:
        return len(self._by_key)

    def find(self, key: Hashable) -> CapturedGraph | None:
        return self._by_key.get(key)

    def comes_again(self, key: Hashable) -> bool:
        """True when it has been asked for before and should be recorded now."""
        if not self.limit or key in self.failed:
            return False
        if key in self._seen:
            del self._seen[key]
            return True
        if len(self._seen) >= _SEEN:
            del self._seen[next(iter(self._seen))]
        self._seen[key] = None
        return False

    def add(self, lane: CapturedGraph) -> None:
        """Keep a lane, in place of the one that was used longest ago; nothing of it may be under way."""
        while len(self._by_key) >= self.limit:
            self._drop(min(self._by_key.values(), key=lambda old: old.used))
        self._by_key[lane.key] = lane

    def sign(self, lane: CapturedGraph, sign: Hashable) -> None:
        """Find the lane by this sign from now on."""
        if len(lane.signs) >= _SIGNS:
            del self.by_sign[lane.signs.pop(0)]
        lane.signs.append(sign)
        self.by_sign[sign] = lane

    def clear(self) -> None:
        for lane in list(self._by_key.values()):
            self._drop(lane)

    def _drop(self, lane: CapturedGraph) -> None:
        del self._by_key[lane.key]
        for sign in lane.signs:
            self.by_sign.pop(sign, None)
        lane.graph.destroy()
