"""A TensorRT engine in memory, and its execution contexts. TensorRT says what went wrong to its log alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from autovoice.backends.engine import Engine
from autovoice.errors import BuildError, MismatchError, choices, nearest

_DTYPES = {
    "float32": "FLOAT", "float16": "HALF", "int64": "INT64", "int32": "INT32", "int8": "INT8", "uint8": "UINT8",
    "bool": "BOOL",
}  # fmt: skip
_ERROR = 1
#: shapes of all inputs, or of all outputs, in the engine's order
Shapes = tuple[tuple[int, ...], ...]
_REBUILD = "build it again with the TensorRT that is installed here, on this kind of GPU"


class Log(Protocol):
    """What TensorRT is given to write to, and the (severity, text) it wrote, 0 the worst."""

    logger: Any
    messages: list[tuple[int, str]]


@dataclass(frozen=True)
class Spec:
    """An input or output: its name, dtype, and shape with −1 for what a profile leaves open."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]


class LoadedEngine:
    """An engine, its inputs and outputs as the sidecar has them, checked against what the engine says."""

    def __init__(self, module: Any, plan: bytes | Engine, sidecar: Mapping[str, Any], log: Log) -> None:
        self.module = module
        self.log = log
        self._told = len(log.messages)
        self.name = "the engine" if isinstance(plan, bytes) else plan.name
        self.inputs = tuple(_spec(n, t) for n, t in sidecar["inputs"].items())
        self.outputs = tuple(_spec(n, t) for n, t in sidecar["outputs"].items())
        data = plan if isinstance(plan, bytes) else plan.read_bytes()
        try:
            self._runtime = module.Runtime(log.logger)
        except TypeError as e:  # pybind's word for a factory that returned nothing
            raise self.refused("start its runtime", "install a driver that this TensorRT works with") from e
        if sidecar.get("version_compatible"):  # such plans carry code of their own: see `code_in`
            self._runtime.engine_host_code_allowed = True
        self.engine: Any = self._runtime.deserialize_cuda_engine(data)
        if self.engine is None:
            refused = self.refused(f"load {self.name}", _REBUILD)
            raise MismatchError(refused.fact, refused.fix)
        self._kernels: Any = None
        self._check(len(sidecar["profiles"]))

    @property
    def activations(self) -> int:
        """Bytes of device memory any context needs while it runs."""
        return int(self.engine.device_memory_size_v2)

    def output_indices(self, wanted: Sequence[str]) -> tuple[tuple[str, int], ...]:
        """Names with their places among the outputs. Raises BuildError for a name that is no output."""
        made = [s.name for s in self.outputs]
        for name in wanted:
            if name not in made:
                raise BuildError(f"{self.name} has no output '{name}'", nearest(name, made))
        return tuple((name, made.index(name)) for name in wanted)

    def refused(self, doing: str, fix: str) -> BuildError:
        """The error for something TensorRT would not do, in its own words."""
        new = self.log.messages[self._told :]
        self._told += len(new)
        # of what it says at one time the first error is the cause of the others
        said = [text for level, text in new if level <= _ERROR] or [text for _, text in new[-1:]]
        why = " ".join(said[0].split())[:400] if said else "it gives no reason"
        return BuildError(f"TensorRT cannot {doing}: {why}", fix)

    def context(self, lasting: bool) -> Any:
        """An execution context without activation memory; a `lasting` one will run the same shapes many times."""
        strategy = self.module.ExecutionContextAllocationStrategy.USER_MANAGED
        if hasattr(self.module, "DynamicShapesKernelSpecializationStrategy"):
            context = self.engine.create_execution_context(self._just_in_time(strategy, lasting))
        else:
            context = self.engine.create_execution_context(strategy)
        if context is None:
            raise self.refused(f"make an execution context of {self.name}", "free memory of the GPU")
        return context

    def _just_in_time(self, strategy: Any, lasting: bool) -> Any:
        """TensorRT-RTX compiles kernels when it runs: a graph must not keep those that stand in meanwhile."""
        config = self.engine.create_runtime_config()
        config.set_execution_context_allocation_strategy(strategy)
        if self._kernels is None:
            self._kernels = config.create_runtime_cache()
        config.set_runtime_cache(self._kernels)
        if lasting:
            eager = self.module.DynamicShapesKernelSpecializationStrategy.EAGER
            config.dynamic_shapes_kernel_specialization_strategy = eager
        return config

    def close(self) -> None:
        self._kernels = self.engine = self._runtime = None

    def _check(self, profiles: int) -> None:
        engine, modes = self.engine, self.module.TensorIOMode
        names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
        for mode, specs in ((modes.INPUT, self.inputs), (modes.OUTPUT, self.outputs)):
            has = [n for n in names if engine.get_tensor_mode(n) == mode]
            if sorted(has) != sorted(s.name for s in specs):
                raise self._differs(f"tensors {choices(has)} ({mode.name.lower()})", choices(s.name for s in specs))
            for s in specs:
                self._check_tensor(s)
        if engine.num_optimization_profiles != max(profiles, 1):
            raise self._differs(f"{engine.num_optimization_profiles} profiles", str(profiles))

    def _check_tensor(self, spec: Spec) -> None:
        dtype = self.engine.get_tensor_dtype(spec.name).name
        if dtype != _DTYPES[spec.dtype.name]:
            raise self._differs(f"'{spec.name}' as {dtype}", spec.dtype.name)
        shape = tuple(self.engine.get_tensor_shape(spec.name))
        if len(shape) != len(spec.shape):
            raise self._differs(f"'{spec.name}' with {len(shape)} axes", str(len(spec.shape)))
        if self.engine.get_tensor_location(spec.name) != self.module.TensorLocation.DEVICE:
            raise BuildError(
                f"{self.name}: '{spec.name}' holds sizes that TensorRT reads on the host (a shape tensor)",
                "let the model take sizes from the shapes of its inputs, not from their values",
            )

    def _differs(self, engine: str, sidecar: str) -> BuildError:
        return BuildError(f"{self.name} has {engine}, the file beside it says {sidecar}", "build it again")


def _spec(name: str, tensor: Mapping[str, Any]) -> Spec:
    if tensor["dtype"] not in _DTYPES:
        raise BuildError(f"'{name}' is {tensor['dtype']}, which no session takes", f"available: {choices(_DTYPES)}")
    return Spec(name, np.dtype(tensor["dtype"]), tuple(tensor["shape"]))
