"""A lowered ONNX file → an engine with its sidecar and its layers, and the proof of what precision is in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from packaging.version import Version

from autovoice.backends.build import Delivered
from autovoice.backends.tensorrt import inspector
from autovoice.backends.tensorrt.builder import BuiltEngine, engine_from_request
from autovoice.backends.tensorrt.calibration_policy import float_nodes
from autovoice.backends.tensorrt.log import Log
from autovoice.backends.tensorrt.options import session_options
from autovoice.backends.tensorrt.request import Request
from autovoice.backends.tensorrt.session import EngineSession
from autovoice.backends.tensorrt.sidecar import layers_of, read_sidecar, write_sidecar
from autovoice.backends.tensorrt.versions import Tool, features, imported
from autovoice.errors import PrecisionError
from autovoice.machine.gpus import gpus
from autovoice.machine.sharing import gpu_shared
from autovoice.measure.precision import heavy_types

if TYPE_CHECKING:
    from autovoice.backends.build import BuildRequest

#: calls of the profile that tells how long each layer takes
_PROFILED = 20


def make_engine(tool: Tool, options: Mapping[str, Any], asked: BuildRequest) -> Delivered:
    """Write the engine and what stands beside it; what it computes in, told by whom, and the names of these files.

    Raises BuildError in the tool's words, and PrecisionError for convolutions or products in another type than asked.
    """
    module, engine = imported(tool), asked.engine
    has = features(tool, Version(module.__version__))
    request, log = Request.of(asked, options), Log(module)
    with gpu_shared(alone=has.timing_cache):  # nothing may disturb tactics that are timed
        try:
            made = engine_from_request(module, has, request, log)
        finally:
            engine.with_name("builder.log").write_text(log.text())
        engine.write_bytes(made.plan)
        if made.calibration_cache is not None:
            engine.with_name("calibration.cache").write_bytes(made.calibration_cache)
        beside = [write_sidecar(engine, _sidecar(tool, module.__version__, made, request)).name]
        if has.ahead_of_time and not _runs_here(request.environment):
            return Delivered(file=made.types["file"], heavy=made.types["heavy"], told_by="network", beside=beside)
        types = heavy_types(onnx.load(request.model))
        layers = _layers(module, engine, types, request, log)
    layers_of(engine).write_text(inspector.dump(layers))
    missed, untold = check_types(layers, types, request), uninspected(layers, types)
    told = replace(inspector.summary(layers), told_by="inspector", missed=missed, untold=untold)
    if request.implicit is None and not told.heavy:  # kernels that fuse everything tell their borders alone
        told = replace(told, file=made.types["file"], heavy=made.types["heavy"], told_by="network")
    chosen = None if request.implicit is None else "builder"
    return replace(told, quantized_by=chosen, beside=[*beside, layers_of(engine).name])


def _sidecar(tool: Tool, version: str, made: BuiltEngine, request: Request) -> dict[str, Any]:
    e = request.environment
    return {
        "tool": tool.name,
        "version": version,
        "gpu": e.get("gpu"),
        "compute_capability": e.get("compute_capabilities") or [e["compute_capability"]],
        "hardware_compatible": request.options.hardware_compatibility != "none",
        "version_compatible": request.options.version_compatible,
        "inputs": dict(made.inputs),
        "outputs": dict(made.outputs),
        "profiles": [dict(profile) for profile in request.profiles],
    }


def _runs_here(environment: Mapping[str, Any]) -> bool:
    return any(g.compute_capability in environment["compute_capabilities"] for g in gpus())


def _layers(module: Any, engine: Path, asked: Mapping[str, str], request: Request, log: Log) -> list[inspector.Layer]:
    """What the inspector says, each layer timed where that is asked for."""
    sidecar = read_sidecar(engine)
    options = {**asdict(session_options({})), "cuda_graphs": False}
    with EngineSession(module, engine, sidecar, tuple(sidecar["outputs"]), options, log=log) as session:
        layers = inspector.layers_of(module, session.engine, asked)
        if not request.options.profile_layers:
            return layers
        return inspector.with_times(layers, session.profile(_noise(request), _PROFILED))


def _noise(request: Request) -> dict[str, np.ndarray]:
    """Inputs of the opt shape to be timed with, not judged by."""
    rng = np.random.default_rng(0)
    found = {}
    for name, t in request.inputs.items():
        shape = request.profiles[0][name]["opt"]
        kind = np.dtype(t["dtype"])
        found[name] = rng.standard_normal(shape).astype(kind) if kind.kind == "f" else np.ones(shape, kind)
    return found


def check_types(layers: list[inspector.Layer], asked: Mapping[str, str], request: Request) -> int:
    """How many layers of a quantized build came out in a higher type than the graph gives them.

    `asked` is the type of every convolution and product. Raises PrecisionError for any that should be floating point
    of one type and is another, and where the builder chooses for itself, for one that is to stay out of int8 and is in
    it, and for a share below the least.
    """
    if request.implicit is not None:
        _check_held(layers, request)
        _check_share(layers, request)
        return 0
    wrong = []
    for layer in (x for x in layers if x.heavy and x.type is not None):
        wanted = {asked[n] for node in layer.nodes for n in (node, *node.split("+")) if n in asked}
        if wanted and layer.type not in wanted:
            wrong.append((layer, wanted))
    floats = [(x, w) for x, w in wrong if not w & {"int8", "float8"}]
    if floats:
        layer, wanted = floats[0]
        fact = f"asked {' and '.join(sorted(wanted))}, but {len(floats)} layers are not: {layer.name} is {layer.type}"
        raise PrecisionError(fact, "++component.<name>.keep.nodes=[…] keeps nodes in float32, if that is intended")
    return len(wrong)


def uninspected(layers: list[inspector.Layer], asked: Mapping[str, str]) -> int:
    """How many convolutions and products the inspector says nothing of: their type is not proven."""
    told = {part for x in layers if x.heavy and x.type for n in x.nodes for part in (n, *n.split("+"))}
    return sum(name not in told for name in asked)


def _check_held(layers: list[inspector.Layer], request: Request) -> None:
    """The builder may prefer other types than it was asked for; what the policy leaves out is not its to choose."""
    assert request.implicit is not None
    assert request.quantize is not None
    float16 = request.implicit["float16"]
    _, must, _ = float_nodes(request.model, request.named, request.quantize, request.keep, float16)
    for layer in (x for x in layers if x.heavy and x.type == request.precision):
        if found := must.intersection(layer.nodes):
            fact = f"'{min(found)}' is to stay out of {request.precision}, and the builder computes it so"
            raise PrecisionError(fact, "precision.implicit.prefer_int8=false makes what is left out an obligation")


def _check_share(layers: list[inspector.Layer], request: Request) -> None:
    assert request.implicit is not None
    least = request.implicit["min_share"]
    heavy = [x for x in layers if x.heavy and x.type is not None]
    share = sum(x.type == request.precision for x in heavy) / max(1, len(heavy))
    if least is not None and share < least:
        fact = f"asked {request.precision} for {least:.0%} of the heavy layers, the builder chose it for {share:.0%}"
        raise PrecisionError(fact, "precision=int8 quantizes by explicit pairs; or lower precision.implicit.min_share")
