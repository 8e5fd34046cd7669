"""A loaded TensorRT engine that runs on the GPU, its inputs and outputs staying there.

A call whose shapes and addresses came twice before is one launch of a CUDA graph.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self

from autovoice.backends.base import Shared
from autovoice.backends.cuda.arena import Arena
from autovoice.backends.cuda.array import DeviceArray
from autovoice.backends.cuda.runtime import checked, load
from autovoice.backends.cuda.stream import capture
from autovoice.backends.engine import Engine
from autovoice.backends.tensorrt.captured_graphs import CapturedGraph, CapturedGraphs
from autovoice.backends.tensorrt.execution import Execution, Executions
from autovoice.backends.tensorrt.feeds import View, fingerprint_of, views_of
from autovoice.backends.tensorrt.fit import Fit, Profiles
from autovoice.backends.tensorrt.layer_times import layer_times
from autovoice.backends.tensorrt.loaded import LoadedEngine, Log, Shapes
from autovoice.backends.tensorrt.tensors import Tensors
from autovoice.errors import BuildError

Key = tuple[Shapes, tuple[int, ...]]


class EngineSession:
    """An engine on the GPU: takes numpy or device arrays, gives `DeviceArray`s, and waits for nothing.

    Outputs are good until the next `run`, or `close`. Device inputs are used where they are when they lie on
    256-byte boundaries, as whole allocations do, and are copied otherwise. Until `wait`, they may be changed only by
    work on the default stream, which is ordered with the session's; torch tensors written on another stream must be
    synchronised first, since a tensor does not say which that was.

    `notes` are sentences about what did not go as configured. Sessions with one `shared` run one after another on one
    stream and share activation memory; without it, a session makes and closes its own.
    """

    memory = "cuda"

    def __init__(
        self,
        module: Any,
        engine: bytes | Engine,
        sidecar: Mapping[str, Any],
        outputs: Sequence[str],
        options: Mapping[str, Any],
        shared: Shared | None = None,
        *,
        log: Log,
    ) -> None:
        self._closed = True  # until it is whole
        self.notes: list[str] = []
        self._launch = load().cudaGraphLaunch
        self._fingerprinters: dict[type, Any] = {}
        self._graphs = CapturedGraphs(int(options.get("max_cuda_graphs", 8)) if options.get("cuda_graphs", True) else 0)
        self._by_fingerprint = self._graphs.by_fingerprint
        self._runs = 0
        with ExitStack() as stack:
            if shared is None:
                shared = stack.enter_context(Shared())
            lock = self._lock = shared.lock
            with lock:
                self._arena: Arena = shared.of("cuda", lambda: Arena(lock))
                self._stream = self._arena.stream.raw
                with self._arena.active():
                    self._engine = LoadedEngine(module, engine, sidecar, log)
                    stack.callback(self._engine.close)
                    self._inputs = tuple(s.name for s in self._engine.inputs)
                    self._wanted = self._engine.output_indices(outputs)
                    self._profiles = Profiles(self._engine.inputs, sidecar["profiles"])
                    self._executions = Executions(self._engine, self._arena, self._profiles)
                    self._tensors = Tensors(self._engine, self._arena, self._profiles.ranges)
                    # by a function that does not know the session: one that is dropped is then freed at once
                    stack.callback(_free, self._arena, self._graphs, self._executions, self._tensors)
                    self._arena.reserve(self._engine.activations, f"the activations of {self._engine.name}")
                    self._generation = self._arena.generation
            self._held = stack.pop_all()
        self._closed = False

    def run(self, feeds: Mapping[str, Any]) -> dict[str, DeviceArray]:
        """Outputs by name, perhaps still being computed: reading them waits. Raises FeedError and BuildError."""
        with self._lock:
            graph = self._by_fingerprint.get(self._fingerprint(feeds))
            if graph is None or self._arena.generation != self._generation or len(feeds) != len(self._inputs):
                return self._run(feeds)
            status = self._launch(graph.raw, self._stream)
            if status[0]:
                checked(status, "launching a graph")
            self._runs = graph.used = self._runs + 1
            return graph.outputs.copy()

    def put(self, feeds: Mapping[str, Any]) -> dict[str, DeviceArray]:
        """Copies of the feeds, of some or all inputs, in device memory, which the arrays returned own."""
        with self._lock:
            self._check_open()
            with self._arena.active():
                given = [spec for spec in self._engine.inputs if spec.name in feeds]
                return self._tensors.put(given, self._views(feeds, some=True))

    def wait(self) -> None:
        """Until the GPU has done all that was started. Raises BuildError for what failed there."""
        self._check_open()
        self._arena.stream.wait()

    @property
    def engine(self) -> Any:
        """TensorRT's own object, for its inspector."""
        self._check_open()
        return self._engine.engine

    def profile(self, feeds: Mapping[str, Any], runs: int = 10) -> dict[str, float]:
        """Milliseconds a run by layer name, each layer timed on its own, so their sum exceeds an ordinary run."""
        with self._lock:
            self._check_open()
            with self._arena.active():
                shapes, fit, addresses = self._ready(self._views(feeds))
                execution = self._bound(Execution(self._engine, self._arena, fit.profile), shapes, addresses)
                return layer_times(self._engine, execution, self._arena.stream, runs)

    def close(self) -> None:
        """Free everything; `run` then fails. Twice is harmless."""
        with self._lock:
            self._closed = True
            with self._arena.active():
                self._held.close()

    def __del__(self) -> None:
        if not self._closed:  # or execution contexts go while their runs are under way
            self.close()

    # --- a call that is not known yet ----------------------------------------------------------------------------

    def _fingerprint(self, feeds: Mapping[str, Any]) -> Any:
        """What tells these feeds from others, None where they cannot be told without a look."""
        readers = self._fingerprinters
        try:
            return tuple([readers[type(array := feeds[name])](array) for name in self._inputs])
        except KeyError:  # a type seen for the first time, or a name that is missing
            return None

    def _run(self, feeds: Mapping[str, Any]) -> dict[str, DeviceArray]:
        self._check_open()
        with self._arena.active():
            views = self._views(feeds)
            shapes, fit, addresses = self._ready(views)
            outputs = self._tensors.outputs(fit, self._wanted)
            graph = self._start(shapes, fit, addresses, outputs)
            if graph is not None and addresses == tuple(v.ptr for v in views):
                self._remember(graph, feeds, views)
            return outputs

    def _views(self, feeds: Mapping[str, Any], some: bool = False) -> list[View]:
        """See `views_of`; types of arrays that come for the first time are learned."""
        views = views_of(feeds, self._engine, self._arena.device, some)
        for array in feeds.values():
            if type(array) not in self._fingerprinters:
                self._fingerprinters[type(array)] = fingerprint_of(array)
        return views

    def _ready(self, views: Sequence[View]) -> tuple[Shapes, Fit, tuple[int, ...]]:
        """The inputs in place and room for the outputs; graphs that were recorded with other memory are gone."""
        if self._arena.generation != self._generation:
            self._forget_graphs()
            self._generation = self._arena.generation
        shapes = tuple(v.shape for v in views)
        fit = self._executions.fit(shapes)
        addresses = self._tensors.place(views)
        if not self._tensors.fit(fit):
            self._forget_graphs()
            execution = self._executions.of(fit.profile)
            execution.shape(self._profiles.ranges[fit.profile].most)
            self._tensors.grow(fit, execution.outputs())
        return shapes, fit, addresses

    def _bound(self, execution: Execution, shapes: Shapes, addresses: tuple[int, ...]) -> Execution:
        execution.shape(shapes)
        execution.bind((*addresses, *self._tensors.output_addresses))
        return execution

    # --- graphs --------------------------------------------------------------------------------------------------

    def _start(
        self, shapes: Shapes, fit: Fit, addresses: tuple[int, ...], outputs: dict[str, DeviceArray]
    ) -> CapturedGraph | None:
        """Start this call; the graph it took or made, if any."""
        key = shapes, addresses
        graph = self._graphs.find(key)
        if graph is not None:
            checked(self._launch(graph.raw, self._stream), "launching a graph")
        elif self._graphs.comes_again(key):
            graph = self._record(key, fit, outputs)
        if graph is None:
            self._bound(self._executions.of(fit.profile), shapes, addresses).enqueue(self._arena.stream.handle)
            return None
        self._runs = graph.used = self._runs + 1
        return graph

    def _record(self, key: Key, fit: Fit, outputs: dict[str, DeviceArray]) -> CapturedGraph | None:
        """A graph for a key, this call being its first run; None where it cannot be had, which `notes` then say."""
        stream, capturing = self._arena.stream, self._arena.capturing
        try:
            execution = self._bound(Execution(self._engine, self._arena, fit.profile, lasting=True), *key)
            execution.enqueue(stream.handle)  # the answer of this call; a first run also does what cannot be recorded
            stream.wait()
            captured = capture(capturing, lambda: execution.enqueue(capturing.handle))
        except BuildError as e:
            shapes = ", ".join(f"'{n}' {s}" for n, s in zip(self._inputs, key[0], strict=True))
            self.notes += [f"{self._engine.name}: {note}" for note in self._graphs.not_captured(key, shapes, e.fact)]
            return None
        graph = CapturedGraph(key, execution, captured, outputs.copy(), captured.raw)
        self._graphs.add(graph)
        return graph

    def _remember(self, graph: CapturedGraph, feeds: Mapping[str, Any], views: Sequence[View]) -> None:
        """Feeds like these find their graph at once, unless another stream has to be waited for each time."""
        fingerprint = self._fingerprint(feeds)
        ordered = all(self._arena.stream.ordered_with(v.stream) for v in views)
        if ordered and None not in fingerprint and fingerprint not in self._by_fingerprint:
            self._graphs.fingerprint(graph, fingerprint)

    def _forget_graphs(self) -> None:
        if len(self._graphs):
            self._arena.stream.wait()  # what still runs uses their contexts
            self._graphs.clear()

    def _check_open(self) -> None:
        if self._closed or self._arena.closed:
            raise BuildError("this session is closed", "load it again")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _free(arena: Arena, graphs: CapturedGraphs, executions: Executions, tensors: Tensors) -> None:
    if not arena.closed:
        # unchecked: a fault on the device was raised where it happened, and all must be freed nevertheless
        load().cudaStreamSynchronize(arena.stream.raw)
    graphs.clear()
    executions.clear()
    tensors.close()
