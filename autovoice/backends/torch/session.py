"""A loaded module behind the protocol of sessions.

On a GPU everything runs on the legacy default stream, against which the streams of other engines block, so what one
engine writes another reads in order. Weights of convolutions and linear layers are held in the compute type, inputs
are converted to it, and autocast converts what meets between them; outputs come back in their declared type.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor, nn

from autovoice.backends.base import run_error
from autovoice.backends.guard import Guard
from autovoice.backends.torch.arrays import TorchArray, tensor_from
from autovoice.backends.torch.record import Record
from autovoice.errors import BuildError, nearest
from autovoice.modules.loading import TORCH_DTYPES, call

MAX_GRAPHS = 8
Tensors = dict[str, Tensor]
#: the switches below belong to the process
_SWITCHES = threading.RLock()


class TorchSession:
    """One module on one device; `run` may be called from several threads. `notes` say where it runs.

    What a CUDA graph gives holds until the next run, of any thread.
    """

    def __init__(
        self,
        module: nn.Module,
        record: Record,
        outputs: tuple[str, ...],
        device: torch.device,
        graphs: bool = False,
        watched: bool = False,
        lent: bool = False,
    ) -> None:
        """`watched`: by a dispatch mode, which in inference mode sees composite operations before autocast does.

        `lent`: what the module gives is memory of its own, which whatever is compiled like it takes back.
        """
        for name in outputs:
            if name not in record.outputs:
                raise BuildError(f"{record.target} has no output '{name}'", nearest(name, record.outputs))
        self._guard = Guard("session")
        self.memory = "cuda" if device.type == "cuda" else "host"
        self.device = device
        self.notes: tuple[str, ...] = ()
        if device.type == "cuda":
            self._stream = torch.cuda.default_stream(device)
        self._module: nn.Module | None = module.to(device)
        self._weights = {_memory(t) for t in (*module.parameters(), *module.buffers())}
        self._record = record
        self._outputs = outputs
        self._graphs = Graphs() if graphs else None
        self._lent = lent
        self._without_gradients = torch.no_grad if watched else torch.inference_mode

    def run(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        try:
            return self._run(feeds)
        except (RuntimeError, MemoryError) as e:  # torch's own errors, of memory too, are RuntimeErrors
            raise run_error("torch", e, feeds) from e

    def _run(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        with self._guard, self._placed():
            given = {name: tensor_from(value, self.device) for name, value in feeds.items()}
            got = self._computed(given) if self._graphs is None else self._graphs.run(self._computed, given)
            return {name: value.numpy() if self.memory == "host" else TorchArray(value) for name, value in got.items()}

    def put(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        """The feeds on the GPU; on a CPU as they are."""
        if self.memory == "host":
            return dict(feeds)
        with self._guard, self._placed():
            return {name: TorchArray(tensor_from(value, self.device)) for name, value in feeds.items()}

    def wait(self) -> None:
        if self.memory == "cuda":
            self._stream.synchronize()

    def close(self) -> None:
        """Free everything once no thread runs it; `run` then fails."""
        if self._guard.close():
            self._module = self._graphs = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _computed(self, given: Tensors) -> Tensors:
        """The outputs wanted; all of it is part of a CUDA graph where there is one."""
        assert self._module is not None
        converted = {name: self._converted(name, value) for name, value in given.items()}
        with self._switched():
            got = call(self._module, converted, tuple(self._record.outputs), self._without_gradients)
            return {name: self._given_out(name, got[name], given) for name in self._outputs}

    def _converted(self, name: str, value: Tensor) -> Tensor:
        record = self._record
        if record.dtype == "float16" and value.dtype == torch.float32 and name not in record.kept:
            return value.half()
        return value.clone() if name in record.changed else value

    def _given_out(self, name: str, value: Tensor, given: Tensors) -> Tensor:
        declared = TORCH_DTYPES[self._record.outputs[name]]
        if value.is_floating_point() and declared.is_floating_point and value.dtype != declared:
            return value.to(declared)
        # neither weights nor the caller's own inputs
        memory = _memory(value)
        shared = self._lent or memory in self._weights or any(memory == _memory(t) for t in given.values())
        return value.clone() if shared else value

    @contextmanager
    def _placed(self) -> Iterator[None]:
        """On the session's device and stream, alone among threads; a CPU needs none of it."""
        with ExitStack() as stack:
            if self.device.type == "cuda":
                stack.enter_context(_SWITCHES)
                if torch.cuda.current_device() != self.device.index:
                    stack.enter_context(torch.cuda.device(self.device))
                if torch.cuda.current_stream() != self._stream:
                    stack.enter_context(torch.cuda.stream(self._stream))
            yield

    @contextmanager
    def _switched(self) -> Iterator[None]:
        """What decides in which type operations compute; a graph that was captured under it needs it no more."""
        with ExitStack() as stack:
            if self.device.type == "cuda":
                stack.enter_context(_without_tf32())
            if self._record.dtype == "float16":  # no cache: weights that gain from one are held in float16 already
                stack.enter_context(torch.autocast(self.device.type, torch.float16, cache_enabled=False))
            yield


def _memory(tensor: Tensor) -> int:
    address: int = tensor.untyped_storage().data_ptr()
    return address


class Graphs:
    """A CUDA graph for each set of sizes, the least recently used one dropped beyond `MAX_GRAPHS`."""

    def __init__(self) -> None:
        self._known: OrderedDict[Any, tuple[torch.cuda.CUDAGraph, Tensors, Tensors]] = OrderedDict()

    def run(self, function: Any, tensors: Tensors) -> Tensors:
        key = tuple((name, t.shape, t.dtype) for name, t in tensors.items())
        if key not in self._known:
            self._known[key] = _captured(function, tensors)
            if len(self._known) > MAX_GRAPHS:
                self._known.popitem(last=False)
        self._known.move_to_end(key)
        graph, inputs, outputs = self._known[key]
        for name, value in tensors.items():
            inputs[name].copy_(value)
        graph.replay()
        return outputs  # which the next replay overwrites


def _captured(function: Any, tensors: Tensors) -> tuple[torch.cuda.CUDAGraph, Tensors, Tensors]:
    inputs = {name: value.clone() for name, value in tensors.items()}
    function(dict(inputs))  # libraries set themselves up outside of the capture
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        outputs = function(dict(inputs))
    return graph, inputs, outputs


@contextmanager
def _without_tf32() -> Iterator[None]:
    """Full float32 in matrix products and convolutions; what the process had chosen comes back."""
    switches = (torch.backends.cuda.matmul, torch.backends.cudnn.conv, torch.backends.cudnn.rnn)
    others = [(s, value) for s in switches if (value := s.fp32_precision) != "ieee"]
    try:
        for switch, _ in others:
            switch.fp32_precision = "ieee"
        yield
    finally:
        for switch, value in others:
            switch.fp32_precision = value
