"""CUDA graphs of an engine: recorded runs, one for each set of input shapes and addresses that comes again.

TensorRT wants an execution context for each graph; all share the arena's activation memory.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any

from autovoice.backends.cuda.array import DeviceArray
from autovoice.backends.cuda.stream import Graph
from autovoice.backends.tensorrt.execution import Execution

#: how many keys that came once are kept in mind, and how many ways to fingerprint the feeds of one graph
_SEEN, _FINGERPRINTS = 64, 8
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
    fingerprints: list[Hashable] = field(default_factory=list)


class CapturedGraphs:
    """The graphs used last, at most `limit`, by key and by the fingerprints of their feeds."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.by_fingerprint: dict[Hashable, CapturedGraph] = {}
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

    def add(self, graph: CapturedGraph) -> None:
        """Keep a graph, in place of the one that was used longest ago; nothing of it may be under way."""
        while len(self._by_key) >= self.limit:
            self._drop(min(self._by_key.values(), key=lambda old: old.used))
        self._by_key[graph.key] = graph

    def not_captured(self, key: Hashable, shapes: str, why: str) -> list[str]:
        """Do without a graph for this key from now on, and after some of them for all; what to say of it."""
        self.failed.add(key)
        notes = [f"no CUDA graph for {shapes}, which run without: {why}"]
        if len(self.failed) >= FAILURES:
            self.limit = 0
            notes.append(f"no more CUDA graphs are tried, {FAILURES} could not be recorded")
        return notes

    def fingerprint(self, graph: CapturedGraph, fingerprint: Hashable) -> None:
        """Find the graph by this fingerprint from now on."""
        if len(graph.fingerprints) >= _FINGERPRINTS:
            del self.by_fingerprint[graph.fingerprints.pop(0)]
        graph.fingerprints.append(fingerprint)
        self.by_fingerprint[fingerprint] = graph

    def clear(self) -> None:
        for graph in list(self._by_key.values()):
            self._drop(graph)

    def _drop(self, graph: CapturedGraph) -> None:
        del self._by_key[graph.key]
        for fingerprint in graph.fingerprints:
            self.by_fingerprint.pop(fingerprint, None)
        graph.graph.destroy()
