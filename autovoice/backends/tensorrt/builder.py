"""A request → a serialized engine. The tool's module is handed in, never imported here."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from packaging.version import Version

from autovoice.backends.tensorrt.calibrators import calibrate, check_calibrated
from autovoice.backends.tensorrt.config import add_profile, set_flag
from autovoice.backends.tensorrt.log import Log
from autovoice.backends.tensorrt.network import io_of, network_from_onnx, types_of
from autovoice.backends.tensorrt.request import Request
from autovoice.backends.tensorrt.versions import Features
from autovoice.errors import BuildError
from autovoice.store.atomic import write_atomically

_MIB = 1 << 20


@dataclass(frozen=True)
class BuiltEngine:
    """The plan, its inputs and outputs {name: {dtype, shape}}, and layers of the network by type."""

    plan: bytes
    inputs: Mapping[str, Any]
    outputs: Mapping[str, Any]
    types: Mapping[str, Mapping[str, int]]
    calibration_cache: bytes | None = None


def engine_from_request(module: ModuleType, features: Features, request: Request, log: Log) -> BuiltEngine:
    """Parse, configure, build. Raises BuildError in the tool's words, also where it only returns nothing."""
    builder = module.Builder(log.logger)
    network, parser = network_from_onnx(module, builder, request.model, features, log, typed=request.implicit is None)
    inputs, outputs = io_of(network)
    config = _config(module, builder, features, request)
    for profile in request.profiles:
        add_profile(builder, config, profile, inputs)
    cache = None
    if request.implicit is not None:
        cache = calibrate(module, builder, network, config, request, log)
    timings = _load_timings(config, features, request)
    made = builder.build_serialized_network(network, config)
    if request.implicit is not None:
        check_calibrated(config)
    if made is None:
        raise BuildError(f"{module.__name__} built nothing: {log.why()}", _way_out(log, request))
    if log.fatal_warnings:
        fact = f"{module.__name__} built an engine that cannot run its smallest shapes: {log.fatal_warnings[0][:300]}"
        raise BuildError(fact, "raise dims.<name>.min above what the component's receptive field needs")
    _save_timings(config, timings)
    # the network says what a strongly typed engine computes in; of one that is not, it knows nothing
    types = types_of(network) if request.implicit is None else {"file": {}, "heavy": {}}
    del parser  # the weights were its own until here
    return BuiltEngine(bytes(made), inputs, outputs, types, cache)


def _config(module: ModuleType, builder: Any, features: Features, request: Request) -> Any:
    options, config = request.options, builder.create_builder_config()
    config.set_memory_pool_limit(module.MemoryPoolType.WORKSPACE, options.workspace_mb * _MIB)
    config.builder_optimization_level = options.builder_optimization_level
    config.avg_timing_iterations = options.avg_timing_iterations
    if options.max_aux_streams >= 0:
        config.max_aux_streams = options.max_aux_streams
    config.profiling_verbosity = module.ProfilingVerbosity.DETAILED  # without it the inspector tells names alone
    set_flag(config, module.BuilderFlag.TF32, request.precision == "tfloat32")
    set_flag(config, module.BuilderFlag.VERSION_COMPATIBLE, options.version_compatible)
    if options.hardware_compatibility != "none":
        level = getattr(module.HardwareCompatibilityLevel, options.hardware_compatibility.upper(), None)
        if level is None:
            fact = f"backend.options.hardware_compatibility: {module.__name__} {module.__version__} has no such level"
            raise BuildError(fact, "backend.options.hardware_compatibility=none")
        config.hardware_compatibility_level = level
    if features.ahead_of_time:
        targets = request.environment["compute_capabilities"]
        config.num_compute_capabilities = len(targets)
        for i, target in enumerate(targets):
            config.set_compute_capability(getattr(module.ComputeCapability, "SM" + target.replace(".", "")), i)
    return config


def _timings_file(features: Features, request: Request) -> Path | None:
    """One file for each GPU and version: timings of others are not this one's."""
    if not (features.timing_cache and request.options.timing_cache and request.caches is not None):
        return None
    e = request.environment
    name = "-".join(str(e[k]) for k in ("gpu", "compute_capability", "tensorrt"))
    return request.caches / f"timings-{re.sub(r'[^A-Za-z0-9.]+', '-', name)}.bin"


def _load_timings(config: Any, features: Features, request: Request) -> Path | None:
    path = _timings_file(features, request)
    if path is None:
        return None
    content = path.read_bytes() if path.is_file() else b""
    cache = config.create_timing_cache(content) or config.create_timing_cache(b"")
    if not config.set_timing_cache(cache, False):
        config.set_timing_cache(config.create_timing_cache(b""), False)
    return path


def _save_timings(config: Any, path: Path | None) -> None:
    if path is not None:
        write_atomically(path, bytes(config.get_timing_cache().serialize()))


def _way_out(log: Log, request: Request) -> str:
    text = " ".join(log.errors).lower()
    if "workspace" in text or "memory" in text:
        return f"backend.options.workspace_mb={2 * request.options.workspace_mb}, or lower dims.<name>.max"
    targets = request.environment.get("compute_capabilities", [])
    if len(targets) > 1:
        newest = max(targets, key=Version)
        return f"for the newest GPU alone: backend.options.compute_capabilities=['{newest}'], or another precision"
    if request.precision in ("int8", "float8"):
        return "++component.<name>.quantize.exclude=[…] leaves out what it names; or component.<name>.precision=fp16"
    return "the whole of what it said is in the step's log; component.<name>.backend=onnxruntime builds it elsewhere"
