"""TensorRT without a GPU: its Python module as far as autovoice uses it, in one of three generations.

    cuda = FakeCuda()
    trt = FakeTensorRT(cuda, "10")          # or "11", "rtx": what a generation has not, raises AttributeError
    trt.Runtime(trt.Logger()).deserialize_cuda_engine(plan(inputs={"x": ("float32", [1, -1])}, ...))

`cuda` may be None where nothing is run. A plan is JSON, made by `plan(...)` here or by the fake builder from an ONNX
file. Every output of an engine is `scale` times (2 by default) one of its inputs, its last axis repeated `stretch`
times; where a graph declares another shape, it is filled with the sum of that input instead, its open axes as long as
the input's last. A run also overwrites all of its activation memory, as a real one may.

The rules of the real one hold: shapes within the profile, addresses of live memory, activation memory given and large
enough, a first run before a capture; breaking one is logged and the call returns False or None, as TensorRT does.
Reading an input where an output is written, or letting go of a context whose runs are not done, stands in
`cuda.faults`.

    trt.fail("deserialize", "words")        deserialize_cuda_engine returns None once, the words logged as an error
    "context", "enqueue", "capture"         create_execution_context → None, execute_async_v3 → False (any, captured)
    "parse", "profile", "build"             parse → False, add_optimization_profile → -1, build → None
    "timing_cache"                          create_timing_cache with content → None
    trt.warn("build", "words")              only logs a warning there
    trt.built, trt.contexts, trt.runs       what was built (networks with configurations), made (alive, profile,
                                            config of each) and run

Tests of the builder find on a configuration: `flags`, `pools`, `profiles`, `int8_calibrator`, and so on as set.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from enum import IntEnum
from types import ModuleType
from typing import TYPE_CHECKING, Any
from weakref import ref

import numpy as np

if TYPE_CHECKING:
    from autovoice.backends.tensorrt.session import EngineSession

VERSIONS = {"10": "10.6.0", "11": "11.1.0", "rtx": "1.7.1.116"}
_TYPES = {
    "float32": "FLOAT", "float16": "HALF", "bfloat16": "BF16", "int8": "INT8", "uint8": "UINT8", "int32": "INT32",
    "int64": "INT64", "bool": "BOOL",
}  # fmt: skip
_NAMES = {v: k for k, v in _TYPES.items()}
_SHOWN = {"FLOAT": "FP32", "HALF": "FP16"}
_LAYERS = {
    "Conv": "CONVOLUTION", "ConvTranspose": "DECONVOLUTION", "MatMul": "MATRIX_MULTIPLY", "Gemm": "MATRIX_MULTIPLY",
    "QuantizeLinear": "QUANTIZE", "DequantizeLinear": "DEQUANTIZE", "Cast": "CAST", "Reshape": "SHUFFLE",
    "Transpose": "SHUFFLE", "Squeeze": "SQUEEZE", "Unsqueeze": "UNSQUEEZE", "Constant": "CONSTANT", "Shape": "SHAPE",
    "Identity": "IDENTITY", "Relu": "ACTIVATION", "LeakyRelu": "ACTIVATION", "Tanh": "ACTIVATION",
}  # fmt: skip
_FLAGS = ("TF32", "DEBUG", "GPU_FALLBACK", "REFIT", "DISABLE_TIMING_CACHE", "SPARSE_WEIGHTS", "VERSION_COMPATIBLE",
          "STRIP_PLAN", "WEIGHT_STREAMING", "STRICT_NANS", "DISABLE_COMPILATION_CACHE")  # fmt: skip
_OLD_FLAGS = ("FP16", "BF16", "INT8", "FP8", "INT4", "OBEY_PRECISION_CONSTRAINTS", "PREFER_PRECISION_CONSTRAINTS")

Io = Mapping[str, tuple[str, Sequence[int]]]


def plan(
    inputs: Io,
    outputs: Mapping[str, Mapping[str, Any]] | None = None,
    profiles: Sequence[Mapping[str, Any]] = (),
    activations: int = 1024,
    host: Sequence[str] = (),
    layers: Sequence[Mapping[str, Any]] = (),
    same_length: bool = False,
) -> bytes:
    """A serialized engine. `outputs`: {name: {"of": input, "scale": 2, "stretch": 1, "values": False}}.

    An output with "values" has a shape that depends on values. Inputs named in `host` are shape tensors.
    """
    first = next(iter(inputs))
    made = {
        name: {"scale": 2, "stretch": 1, "values": False, **how}
        for name, how in (outputs or {"y": {"of": first}}).items()
    }
    fields = {
        "fake": "tensorrt",
        "inputs": {n: {"dtype": d, "shape": list(s)} for n, (d, s) in inputs.items()},
        "outputs": made,
        "profiles": [{n: {k: list(v) for k, v in p.items()} for n, p in profile.items()} for profile in profiles],
        "activations": activations,
        "host": list(host),
        "layers": list(layers),
        "same_length": same_length,
    }
    return json.dumps(fields).encode()


def sidecar(plan: bytes, tool: str = "tensorrt") -> dict[str, Any]:
    """What the builder writes beside such an engine."""
    p = json.loads(plan)
    return {
        "schema": 1,
        "tool": tool,
        "version": VERSIONS["10"],
        "gpu": None,
        "compute_capability": ["9.0"],
        "inputs": p["inputs"],
        "outputs": {n: {"dtype": _dtype(p, n), "shape": _open(p, n)} for n in p["outputs"]},
        "profiles": p["profiles"],
    }


def open_session(
    trt: Any, plan: bytes, shared: Any = None, outputs: Sequence[str] | None = None, **options: Any
) -> EngineSession:
    """A session of such an engine, as a backend opens it."""
    from autovoice.backends.tensorrt.log import Log
    from autovoice.backends.tensorrt.session import EngineSession

    beside = sidecar(plan)
    return EngineSession(trt, plan, beside, outputs or tuple(beside["outputs"]), options, shared, log=Log(trt))


def _dtype(p: Mapping[str, Any], output: str) -> str:
    how = p["outputs"][output]
    return str(how.get("dtype", p["inputs"][how["of"]]["dtype"]))


def _open(p: Mapping[str, Any], output: str) -> list[int]:
    how = p["outputs"][output]
    if "shape" in how:
        return list(how["shape"])
    return _stretched(p["inputs"][how["of"]]["shape"], how["stretch"])


def _stretched(shape: Sequence[int], by: int) -> list[int]:
    return [*shape[:-1], shape[-1] * by if shape[-1] > 0 else -1] if shape else []


def _resolved(how: Mapping[str, Any], of: Sequence[int]) -> tuple[int, ...]:
    """An output's shape: its declared one, open axes as long as the input's last; or just like the input's."""
    if "shape" not in how:
        return tuple(_stretched(of, how["stretch"]))
    return tuple(of[-1] * how["stretch"] if axis < 0 else axis for axis in how["shape"])


def _enum(name: str, members: Sequence[str]) -> Any:
    return IntEnum(name, members, start=0)  # type: ignore[misc]


class FakeTensorRT(ModuleType):
    """The module. One object is one installed TensorRT; its classes know each other through it."""

    def __init__(self, cuda: Any = None, generation: str = "10") -> None:
        super().__init__("tensorrt_rtx" if generation == "rtx" else "tensorrt")
        self.__version__ = VERSIONS[generation]
        self.generation, self.cuda = generation, cuda
        self.failures: dict[str, list[str]] = {}
        self.warnings: dict[str, list[str]] = {}
        self.built: list[Any] = []
        self.contexts: list[Any] = []
        self.runs = 0
        _add_enums(self)
        _add_interfaces(self)
        _add_runtime(self)
        _add_builder(self)

    def __repr__(self) -> str:
        return f"<{self.__name__} {self.__version__}, a fake>"

    def fail(self, where: str, words: str = "it was told to fail", times: int = 1) -> None:
        self.failures.setdefault(where, []).extend([words] * times)

    def warn(self, where: str, words: str) -> None:
        self.warnings.setdefault(where, []).append(words)

    def told_to_fail(self, where: str, logger: Any) -> bool:
        for words in self.warnings.pop(where, []):
            logger.log(self.ILogger.WARNING, words)
        waiting = self.failures.get(where)
        if not waiting:
            return False
        logger.log(self.ILogger.ERROR, waiting.pop(0))
        return True


def _add_enums(trt: Any) -> None:
    old, rtx = trt.generation == "10", trt.generation == "rtx"
    trt.DataType = _enum("DataType", ["FLOAT", "HALF", "INT8", "INT32", "BOOL", "UINT8", "FP8", "BF16", "INT64"])
    for name, member in _TYPES.items():
        if name in ("float32", "float16", "int8", "int32", "int64", "bool", "uint8", "bfloat16"):
            setattr(trt, name, trt.DataType[member])
    trt.TensorIOMode = _enum("TensorIOMode", ["NONE", "INPUT", "OUTPUT"])
    trt.TensorLocation = _enum("TensorLocation", ["DEVICE", "HOST"])
    strategies = ["STATIC", "ON_PROFILE_CHANGE", "USER_MANAGED"]
    trt.ExecutionContextAllocationStrategy = _enum("ExecutionContextAllocationStrategy", strategies)
    trt.LayerInformationFormat = _enum("LayerInformationFormat", ["ONELINE", "JSON"])
    trt.ProfilingVerbosity = _enum("ProfilingVerbosity", ["LAYER_NAMES_ONLY", "NONE", "DETAILED"])
    trt.MemoryPoolType = _enum("MemoryPoolType", ["WORKSPACE", "DLA_MANAGED_SRAM", "TACTIC_DRAM"])
    trt.LayerType = _enum("LayerType", [*dict.fromkeys(_LAYERS.values()), "ELEMENTWISE"])
    levels = ["NONE", "AMPERE_PLUS", *([] if old else ["SAME_COMPUTE_CAPABILITY"])]
    trt.HardwareCompatibilityLevel = _enum("HardwareCompatibilityLevel", levels)
    trt.BuilderFlag = _enum("BuilderFlag", [*_FLAGS, *(_OLD_FLAGS if old else ())])
    explicit = [] if rtx else ["EXPLICIT_BATCH"]
    typed = ["STRONGLY_TYPED"] if old or rtx else []
    trt.NetworkDefinitionCreationFlag = _enum("NetworkDefinitionCreationFlag", [*explicit, *typed])
    trt.CalibrationAlgoType = _enum("CalibrationAlgoType", ["LEGACY", "ENTROPY", "ENTROPY_2", "MINMAX"])
    if not old:
        del trt.CalibrationAlgoType
    if rtx:
        capabilities = ["NONE", "CURRENT", "SM75", "SM80", "SM86", "SM89", "SM120", "SM121"]
        trt.ComputeCapability = _enum("ComputeCapability", capabilities)
        trt.DynamicShapesKernelSpecializationStrategy = _enum(
            "DynamicShapesKernelSpecializationStrategy", ["LAZY", "EAGER", "NONE"]
        )


class Severity(IntEnum):
    INTERNAL_ERROR = 0
    ERROR = 1
    WARNING = 2
    INFO = 3
    VERBOSE = 4


def _add_interfaces(trt: Any) -> None:
    """What the user derives from; like pybind's, they insist on their own __init__."""

    class Interface:
        def __init__(self) -> None:
            self._initialised = True

    class ILogger(Interface):
        INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = Severity
        Severity = Severity

        def log(self, severity: Severity, msg: str) -> None:
            raise NotImplementedError

    class Logger(ILogger):
        def __init__(self, min_severity: Severity = Severity.WARNING) -> None:
            super().__init__()
            self.min_severity = min_severity
            self.said: list[tuple[Severity, str]] = []

        def log(self, severity: Severity, msg: str) -> None:
            self.said.append((severity, msg))

    trt.ILogger, trt.Logger = ILogger, Logger
    for name in ("IProfiler", "IProgressMonitor", "IOutputAllocator", "IGpuAllocator"):
        setattr(trt, name, type(name, (Interface,), {}))
    if trt.generation == "10":
        for name in ("IInt8Calibrator", "IInt8EntropyCalibrator2", "IInt8MinMaxCalibrator", "IInt8EntropyCalibrator"):
            setattr(trt, name, type(name, (Interface,), {}))


def needs_init(thing: Any) -> None:
    if not getattr(thing, "_initialised", False):
        raise TypeError(f"__init__() of the base of {type(thing).__name__} must be called when overriding it")


# --- running -------------------------------------------------------------------------------------------------------


def _add_runtime(trt: Any) -> None:
    class Runtime:
        def __init__(self, logger: Any) -> None:
            needs_init(logger)
            self.logger = logger

        def deserialize_cuda_engine(self, serialized_engine: Any) -> Any:
            if trt.told_to_fail("deserialize", self.logger):
                return None
            try:
                fields = json.loads(bytes(serialized_engine))
                assert fields["fake"] == "tensorrt"
            except (ValueError, KeyError, AssertionError, TypeError):
                self.logger.log(Severity.ERROR, "Serialization assertion plan->header.magicTag == kPLAN_TAG failed.")
                return None
            return Engine(trt, fields, self.logger)

    trt.Runtime = Runtime
    trt.ICudaEngine, trt.IExecutionContext = Engine, Context


class RuntimeConfig:
    """Of TensorRT-RTX."""

    def __init__(self) -> None:
        self.strategy = 0
        self.cache: Any = None
        self.dynamic_shapes_kernel_specialization_strategy = 0

    def set_execution_context_allocation_strategy(self, strategy: int) -> None:
        self.strategy = strategy

    def create_runtime_cache(self) -> object:
        return object()

    def set_runtime_cache(self, cache: object) -> bool:
        self.cache = cache
        return True


class Inspector:
    def __init__(self, layers: Sequence[Mapping[str, Any]]) -> None:
        self._layers = layers

    def get_engine_information(self, format: Any) -> str:
        return json.dumps({"Layers": list(self._layers), "Bindings": []})


class Engine:
    def __init__(self, trt: Any, fields: Mapping[str, Any], logger: Any) -> None:
        self.trt, self.fields, self.logger = trt, fields, logger
        self.device_memory_size_v2 = fields["activations"]
        self.num_optimization_profiles = max(len(fields["profiles"]), 1)
        self._names = [*fields["inputs"], *fields["outputs"]]
        self.num_io_tensors = len(self._names)
        self.num_layers = len(fields["layers"])
        if trt.generation == "rtx":
            self.create_runtime_config = RuntimeConfig

    def create_execution_context(self, strategy: Any = 0) -> Any:
        config = strategy if isinstance(strategy, RuntimeConfig) else None
        if self.trt.told_to_fail("context", self.logger):
            return None
        made = Context(self, config.strategy if config else strategy)
        self.trt.contexts.append(made.record)
        made.record.config = config
        return made

    def get_device_memory_size_for_profile_v2(self, profile_index: int) -> int:
        return int(self.device_memory_size_v2)

    def get_tensor_name(self, index: int) -> str:
        return self._names[index]

    def get_tensor_mode(self, name: str) -> Any:
        modes = self.trt.TensorIOMode
        return modes.INPUT if name in self.fields["inputs"] else modes.OUTPUT

    def get_tensor_dtype(self, name: str) -> Any:
        inputs = self.fields["inputs"]
        return self.trt.DataType[_TYPES[inputs[name]["dtype"] if name in inputs else _dtype(self.fields, name)]]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        inputs = self.fields["inputs"]
        return tuple(inputs[name]["shape"] if name in inputs else _open(self.fields, name))

    def get_tensor_location(self, name: str) -> Any:
        return self.trt.TensorLocation.HOST if name in self.fields["host"] else self.trt.TensorLocation.DEVICE

    def is_shape_inference_io(self, name: str) -> bool:
        return name in self.fields["host"]

    def get_tensor_profile_shape(self, name: str, profile_index: int) -> list[tuple[int, ...]]:
        return [tuple(self.fields["profiles"][profile_index][name][k]) for k in ("min", "opt", "max")]

    def create_engine_inspector(self) -> Inspector:
        return Inspector(self.fields["layers"])


class Record:
    """What is known of a context, whether it lives or not."""

    def __init__(self) -> None:
        self.alive = True
        self.profile = 0
        self.config: RuntimeConfig | None = None


class Context:
    def __init__(self, engine: Engine, strategy: int) -> None:
        self.engine, self.trt, self.record = engine, engine.trt, Record()
        self.enqueue_emits_profile = True
        self.profiler: Any = None
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.addresses: dict[str, int] = {}
        self.memory: tuple[int, int] | None = None
        self.managed = strategy == self.trt.ExecutionContextAllocationStrategy.USER_MANAGED
        self.ran: dict[str, tuple[int, ...]] | None = None
        self._timed = False

    def __del__(self) -> None:
        self.record.alive = False

    @property
    def active_optimization_profile(self) -> int:
        return self.record.profile

    def set_device_memory(self, memory: int, size: int) -> None:
        self.memory = (memory, size)

    def set_optimization_profile_async(self, profile_index: int, stream_handle: int) -> bool:
        if not 0 <= profile_index < self.engine.num_optimization_profiles:
            self._say(f"profile {profile_index} is out of range")
            if self.trt.generation != "rtx":
                raise RuntimeError("Error in set optimization profile async.")
            return False
        self.record.profile = profile_index
        self.shapes.clear()
        return True

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        profiles = self.engine.fields["profiles"]
        bounds = profiles[self.active_optimization_profile].get(name) if profiles else None
        declared = self.engine.get_tensor_shape(name)
        if len(shape) != len(declared):
            return self._say(f"{name} has {len(declared)} dimensions")
        low, high = (bounds["min"], bounds["max"]) if bounds else (declared, declared)
        if not all(a <= s <= b for a, s, b in zip(low, shape, high, strict=True)):
            return self._say(
                f"Set dimension {list(shape)} for tensor {name} does not satisfy any optimization profiles"
            )
        self.shapes[name] = tuple(shape)
        return True

    def infer_shapes(self) -> list[str]:
        """In plans made with `same_length`, the last axes of all inputs must agree."""
        missing = [n for n in self.engine.fields["inputs"] if n not in self.shapes]
        if not missing and self.engine.fields.get("same_length"):
            lasts = {s[-1] for s in self.shapes.values() if s}
            if len(lasts) > 1:
                self._say(f"lengths {sorted(lasts)} differ")
                raise RuntimeError("infer_shapes failed")
        return missing

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        if name in self.engine.fields["inputs"]:
            return self.shapes.get(name, self.engine.get_tensor_shape(name))
        how = self.engine.fields["outputs"][name]
        if how["values"]:
            return (*self.shapes[how["of"]][:-1], -1)
        return _resolved(how, self.shapes[how["of"]])

    def set_tensor_address(self, name: str, memory: int) -> bool:
        if not memory or memory % 256:
            return self._say(f"{name}: the address {memory:#x} is null or not aligned")
        self.addresses[name] = memory
        return True

    def execute_async_v3(self, stream_handle: int) -> bool:
        stream = self.trt.cuda.streams.get(int(stream_handle))
        capturing = stream is not None and stream.captured is not None
        if self.trt.told_to_fail("capture" if capturing else "enqueue", self.engine.logger):
            return False
        if not self._ready(capturing):
            return False
        self.ran = dict(self.shapes)
        self._timed = self.profiler is not None
        if self.profiler is not None and self.enqueue_emits_profile:
            self.report_to_profiler()
        return bool(self.trt.cuda.put(stream_handle, self._work()))

    def report_to_profiler(self) -> bool:
        if self.profiler is None or not self._timed:
            return self._say("there is nothing to report")
        needs_init(self.profiler)
        for i, layer in enumerate(self.engine.fields["layers"]):
            self.profiler.report_layer_time(layer["Name"], 0.25 * (i + 1))
        return True

    def _ready(self, capturing: bool) -> bool:
        names = [*self.engine.fields["inputs"], *self.engine.fields["outputs"]]
        if self.infer_shapes():
            return self._say(f"shapes are not set: {self.infer_shapes()}")
        absent = [n for n in names if n not in self.addresses]
        if absent:
            return self._say(f"addresses are not set: {absent}")
        need = self.engine.device_memory_size_v2
        if self.managed and need and (self.memory is None or self.memory[1] < need):
            return self._say(f"{need} bytes of device memory are needed, {self.memory} is set")
        if capturing and self.ran != self.shapes:
            return self._say("captured before a first run with these shapes")
        return True

    def _work(self) -> Any:
        """The run, with what is set now, not later."""
        cuda, fields = self.trt.cuda, self.engine.fields
        memory = self.memory
        inputs = {n: (self.addresses[n], self.shapes[n], t["dtype"]) for n, t in fields["inputs"].items()}
        outputs = {
            n: (self.addresses[n], self.get_tensor_shape(n), _dtype(fields, n), how)
            for n, how in fields["outputs"].items()
        }

        for n, (ptr, *_) in inputs.items():
            if any(ptr == of[0] for of in outputs.values()):
                cuda.faults.append(f"'{n}' is read where an output is written")
        trt, alive = self.trt, ref(self)

        def work() -> None:
            trt.runs += 1
            if alive() is None:
                cuda.faults.append("a run was under way when its execution context was destroyed")
            if memory is not None:
                cuda.view(memory[0], (memory[1],), np.uint8)[:] = 0xAA
            read = {n: cuda.view(*of).copy() for n, of in inputs.items()}
            for ptr, shape, dtype, how in outputs.values():
                values = read[how["of"]]
                repeated = np.repeat(values, how["stretch"], axis=-1) if values.ndim else values
                same = repeated if repeated.shape == shape else repeated.sum()
                cuda.view(ptr, shape, dtype)[...] = (same * how["scale"]).astype(dtype)

        return work

    def _say(self, words: str) -> bool:
        self.engine.logger.log(Severity.ERROR, words)
        return False


# --- building ------------------------------------------------------------------------------------------------------


class Tensor:
    def __init__(self, trt: Any, name: str, dtype: str, shape: Sequence[int], dims: Sequence[str]) -> None:
        self.name, self.shape, self._dims = name, tuple(shape), dims
        self.dtype = trt.DataType[_TYPES[dtype]]
        self.is_shape_tensor = self.is_network_output = False
        self.dynamic_range: Any = None

    def get_dimension_name(self, index: int) -> str:
        return self._dims[index] if index < len(self._dims) else ""

    def set_dynamic_range(self, low: float, high: float) -> bool:
        self.dynamic_range = (low, high)
        return True


class Layer:
    def __init__(self, trt: Any, name: str, kind: str, reads: Sequence[Tensor], writes: Sequence[Tensor]) -> None:
        self.name, self.type = name, trt.LayerType[kind]
        self._reads, self._writes = reads, writes
        self.num_inputs, self.num_outputs = len(reads), len(writes)
        self.metadata = f"[ONNX Layer: {name}]"
        self.output_types: dict[int, Any] = {}
        self._precision = trt.DataType.FLOAT if trt.generation == "10" else None  # removed with weak typing
        self.precision_is_set = False
        if self._precision is not None:
            self.set_output_type = self.output_types.__setitem__

    @property
    def precision(self) -> Any:
        if self._precision is None:
            raise AttributeError("precision")
        return self._precision

    @precision.setter
    def precision(self, dtype: Any) -> None:
        assert self._precision is not None
        self._precision, self.precision_is_set = dtype, True

    def get_input(self, index: int) -> Tensor | None:
        return self._reads[index] if index < len(self._reads) else None

    def get_output(self, index: int) -> Tensor | None:
        return self._writes[index] if index < len(self._writes) else None


class Network:
    def __init__(self, trt: Any, flags: int) -> None:
        self.trt, self.flags = trt, flags
        self.name = ""
        self.inputs: list[Tensor] = []
        self.outputs: list[Tensor] = []
        self.layers: list[Layer] = []

    num_inputs = property(lambda self: len(self.inputs))
    num_outputs = property(lambda self: len(self.outputs))
    num_layers = property(lambda self: len(self.layers))

    def get_input(self, index: int) -> Tensor:
        return self.inputs[index]

    def get_output(self, index: int) -> Tensor:
        return self.outputs[index]

    def get_layer(self, index: int) -> Layer:
        return self.layers[index]

    @property
    def strongly_typed(self) -> bool:
        flag = getattr(self.trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
        return self.trt.generation != "10" or (flag is not None and bool(self.flags & (1 << int(flag))))


class ParserError:
    def __init__(self, words: str, node: str = "", operator: str = "") -> None:
        self._words, self._node, self._operator = words, node, operator

    def desc(self) -> str:
        return self._words

    def node_name(self) -> str:
        return self._node

    def node_operator(self) -> str:
        return self._operator

    def code(self) -> int:
        return 8

    def node(self) -> int:
        return 0


class Profile:
    def __init__(self) -> None:
        self.shapes: dict[str, dict[str, tuple[int, ...]]] = {}

    def set_shape(self, input: str, min: Any, opt: Any, max: Any) -> None:
        self.shapes[input] = {"min": tuple(min), "opt": tuple(opt), "max": tuple(max)}

    def get_shape(self, input: str) -> list[tuple[int, ...]]:
        return list(self.shapes[input].values())


class TimingCache:
    def __init__(self, content: bytes) -> None:
        self.content = content

    def serialize(self) -> bytes:
        return self.content + b"timed;"


class HostMemory:
    """What a build returns: a buffer."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.nbytes = len(data)

    def __bytes__(self) -> bytes:
        return self._data


class Config:
    """A builder configuration: everything that was set stands in it."""

    def __init__(self, trt: Any, logger: Any) -> None:
        self.trt, self._logger = trt, logger
        self._flags: set[Any] = {trt.BuilderFlag.TF32}  # on by default, as in the real one
        self.pools: dict[Any, int] = {}
        self.profiles: list[Profile] = []
        self.profiling_verbosity = trt.ProfilingVerbosity.LAYER_NAMES_ONLY
        self.hardware_compatibility_level = trt.HardwareCompatibilityLevel.NONE
        self.builder_optimization_level = 3
        self.avg_timing_iterations = 1
        self.max_aux_streams = -1
        self.progress_monitor: Any = None
        self.timing_cache: TimingCache | None = None
        if trt.generation == "10":
            self.int8_calibrator: Any = None
            self.calibration_profile: Profile | None = None
            self.set_calibration_profile = self._set_calibration_profile
        if trt.generation == "rtx":
            self.num_compute_capabilities = 1
            self.compute_capabilities: dict[int, Any] = {}
            self.set_compute_capability = self._set_compute_capability
        else:
            self.create_timing_cache = self._create_timing_cache
            self.set_timing_cache = self._set_timing_cache
            self.get_timing_cache = lambda: self.timing_cache

    @property
    def flags(self) -> int:
        return sum(1 << int(f) for f in self._flags)

    @property
    def num_optimization_profiles(self) -> int:
        return len(self.profiles)

    def set_flag(self, flag: Any) -> None:
        self._flags.add(self.trt.BuilderFlag(flag))

    def clear_flag(self, flag: Any) -> None:
        self._flags.discard(flag)

    def get_flag(self, flag: Any) -> bool:
        return flag in self._flags

    def set_memory_pool_limit(self, pool: Any, pool_size: int) -> None:
        self.pools[pool] = pool_size

    def get_memory_pool_limit(self, pool: Any) -> int:
        return self.pools[pool]

    def add_optimization_profile(self, profile: Profile) -> int:
        disordered = any(not a <= b <= c for s in profile.shapes.values() for a, b, c in zip(*s.values(), strict=True))
        if self.trt.told_to_fail("profile", self._logger) or disordered:
            return -1
        self.profiles.append(profile)
        return len(self.profiles) - 1

    def _set_calibration_profile(self, profile: Profile) -> bool:
        self.calibration_profile = profile
        return True

    def _set_compute_capability(self, capability: Any, index: int) -> bool:
        self.compute_capabilities[index] = self.trt.ComputeCapability(capability)
        return index < self.num_compute_capabilities

    def _create_timing_cache(self, serialized: bytes) -> TimingCache | None:
        if serialized and self.trt.told_to_fail("timing_cache", self._logger):
            return None
        return TimingCache(bytes(serialized))

    def _set_timing_cache(self, cache: TimingCache, ignore_mismatch: bool) -> bool:
        self.timing_cache = cache
        return True


def _add_builder(trt: Any) -> None:
    class Builder:
        def __init__(self, logger: Any) -> None:
            needs_init(logger)
            self.logger = logger
            self.max_threads = 1

        def create_network(self, flags: int = 0) -> Network:
            return Network(trt, flags)

        def create_builder_config(self) -> Config:
            return Config(trt, self.logger)

        def create_optimization_profile(self) -> Profile:
            return Profile()

        def build_serialized_network(self, network: Network, config: Config) -> HostMemory | None:
            trt.built.append((network, config))
            if trt.told_to_fail("build", self.logger):
                return None
            if not _calibrated(trt, network, config, self.logger):
                return None
            return HostMemory(_plan_of(network, config))

    class OnnxParser:
        def __init__(self, network: Network, logger: Any) -> None:
            self._network, self._logger = network, logger
            self._errors: list[ParserError] = []

        @property
        def num_errors(self) -> int:
            return len(self._errors)

        def get_error(self, index: int) -> ParserError:
            return self._errors[index]

        def clear_errors(self) -> None:
            self._errors.clear()

        def parse(self, model: bytes, path: str | None = None) -> bool:
            words = next(iter(trt.failures.get("parse", [])), None)
            if trt.told_to_fail("parse", self._logger):
                self._errors.append(ParserError(str(words), "node_x", "NonZero"))
                return False
            return _parsed(trt, self._network, bytes(model), self._errors)

    trt.Builder, trt.OnnxParser = Builder, OnnxParser
    trt.IBuilderConfig, trt.INetworkDefinition, trt.IHostMemory = Config, Network, HostMemory


def _parsed(trt: Any, network: Network, model: bytes, errors: list[ParserError]) -> bool:
    import onnx

    try:
        proto = onnx.shape_inference.infer_shapes(onnx.load_model_from_string(model))
    except Exception as e:
        errors.append(ParserError(f"Failed to parse the ONNX model: {e}"))
        return False
    weights = {w.name for w in proto.graph.initializer}
    tensors = {w.name: Tensor(trt, w.name, _onnx_type(w.data_type), w.dims, []) for w in proto.graph.initializer}
    for v in (*proto.graph.input, *proto.graph.value_info, *proto.graph.output):
        tensors[v.name] = _tensor(trt, v)
    network.inputs = [tensors[v.name] for v in proto.graph.input if v.name not in weights]
    network.outputs = [tensors[v.name] for v in proto.graph.output]
    for tensor in network.outputs:
        tensor.is_network_output = True
    for n in proto.graph.node:
        reads = [tensors[t] for t in n.input if t in tensors]
        writes = [tensors.get(t) or Tensor(trt, t, "float32", (), []) for t in n.output]
        network.layers.append(Layer(trt, n.name or n.output[0], _LAYERS.get(n.op_type, "ELEMENTWISE"), reads, writes))
    return True


def _tensor(trt: Any, value: Any) -> Tensor:
    t = value.type.tensor_type
    sizes = [d.dim_value if d.HasField("dim_value") else -1 for d in t.shape.dim]
    return Tensor(trt, value.name, _onnx_type(t.elem_type), sizes, [d.dim_param for d in t.shape.dim])


def _onnx_type(code: int) -> str:
    import onnx

    if code == onnx.TensorProto.BFLOAT16:
        return "bfloat16"
    name = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(code)).name
    return name if name in _TYPES else "float32"


def _calibrated(trt: Any, network: Network, config: Config, logger: Any) -> bool:
    """The calls that a calibrator gets: the cache first, and only without one the batches."""
    calibrator = getattr(config, "int8_calibrator", None)
    if calibrator is None or network.strongly_typed or not config.get_flag(trt.BuilderFlag.INT8):
        return True
    needs_init(calibrator)
    if calibrator.read_calibration_cache():
        return True
    calibrator.get_batch_size()
    names = [t.name for t in network.inputs]
    count = 0
    while calibrator.get_batch(names) is not None:
        count += 1
    if not count:
        logger.log(Severity.ERROR, "Calibration failure occurred with no scaling factors detected.")
        return False
    kind = "MinMax" if isinstance(calibrator, trt.IInt8MinMaxCalibrator) else "Entropy"
    header = f"TRT-100600-{kind}Calibration{'' if kind == 'MinMax' else '2'}\n".encode()
    calibrator.write_calibration_cache(header + b"".join(f"{n}: 3c010a14\n".encode() for n in names))
    return True


def _plan_of(network: Network, config: Config) -> bytes:
    inputs = {t.name: (_NAMES[t.dtype.name], t.shape) for t in network.inputs}
    first = next(t.name for t in network.inputs)
    outputs = {}
    for t in network.outputs:
        of = next((i.name for i in network.inputs if i.shape == t.shape), first)
        outputs[t.name] = {"of": of, "dtype": _NAMES[t.dtype.name], "shape": list(t.shape)}
    profiles = [p.shapes for p in config.profiles]
    detailed = config.profiling_verbosity == config.trt.ProfilingVerbosity.DETAILED
    layers = [_information(x) if detailed else x.name for x in network.layers]
    return plan(inputs, outputs, profiles, 4096, layers=layers)  # type: ignore[arg-type]


def _information(layer: Layer) -> dict[str, Any]:
    def shown(tensors: Iterator[Tensor]) -> list[dict[str, Any]]:
        return [
            {
                "Name": t.name,
                "Dimensions": list(t.shape),
                "Format/Datatype": f"Row major linear {_SHOWN.get(t.dtype.name, t.dtype.name)}",
            }
            for t in tensors
        ]

    return {
        "Name": layer.name,
        "LayerType": layer.type.name.title().replace("_", ""),
        "Inputs": shown(iter(layer._reads)),
        "Outputs": shown(iter(layer._writes)),
        "TacticName": f"fake_{layer.type.name.lower()}",
        "Metadata": layer.metadata,
    }
