"""The time that each layer of an engine takes."""

from __future__ import annotations

from typing import Any

from autovoice.backends.cuda.stream import Stream
from autovoice.backends.tensorrt.execution import Execution
from autovoice.backends.tensorrt.loaded import LoadedEngine


def layer_times(engine: LoadedEngine, execution: Execution, stream: Stream, runs: int) -> dict[str, float]:
    """Mean milliseconds by layer name. The context keeps the profiler: let it go afterwards."""
    times = _times(engine.module)
    execution.enqueue(stream.handle)  # the first run also loads kernels
    stream.wait()
    execution.context.profiler = times
    execution.context.enqueue_emits_profile = False  # or each enqueue waits for the GPU itself
    for _ in range(runs):
        execution.enqueue(stream.handle)
        stream.wait()
        if not execution.context.report_to_profiler():
            raise engine.refused("time its layers", "build it with profiling_verbosity detailed")
    return {name: ms / runs for name, ms in times.layers.items()}


def _times(module: Any) -> Any:
    class Times(module.IProfiler):
        def __init__(self) -> None:
            module.IProfiler.__init__(self)
            self.layers: dict[str, float] = {}

        def report_layer_time(self, layer_name: str, ms: float) -> None:
            self.layers[layer_name] = self.layers.get(layer_name, 0.0) + ms

    return Times()
