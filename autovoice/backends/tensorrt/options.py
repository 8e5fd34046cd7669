"""The options of a TensorRT backend's YAML, checked."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from autovoice.errors import BuildError, nearest

LEVELS = range(6)
_MOST_GRAPHS = 1024
_WORDS = {int: "a whole number", bool: "true or false", str: "a word", tuple: "a list"}
_EXAMPLES = {"compute_capabilities": "['8.9']"}
COMPATIBILITIES = ("none", "ampere_plus", "same_compute_capability")


@dataclass(frozen=True)
class BuildOptions:
    """What makes an engine.

    `workspace_mb`: MiB that a layer may use beside its inputs and outputs; `builder_optimization_level` 0 (fast to
    build) … 5 (tries most); `max_aux_streams` run what is independent side by side, −1 leaves that to the tool;
    `avg_timing_iterations` average that many timings of each tactic; `timing_cache` keeps timings of tactics in the
    store; `hardware_compatibility` and `version_compatible` trade speed for engines that other GPUs and versions can
    load; `profile_layers` times each layer after the build; `compute_capabilities` are the GPUs that an ahead-of-time
    engine is for.
    """

    workspace_mb: int = 512
    builder_optimization_level: int = 3
    max_aux_streams: int = -1
    avg_timing_iterations: int = 8
    timing_cache: bool = True
    hardware_compatibility: str = "none"
    version_compatible: bool = False
    profile_layers: bool = True
    compute_capabilities: tuple[str, ...] = ()


@dataclass(frozen=True)
class SessionOptions:
    """How an engine is run: `cuda_graphs` of calls that come again, at most `max_cuda_graphs` of them kept."""

    cuda_graphs: bool = True
    max_cuda_graphs: int = 8


def build_options(given: Mapping[str, Any]) -> BuildOptions:
    """Raises BuildError for an unknown key or a value out of range."""
    known = {f.name: f for f in fields(BuildOptions)}
    own = {f.name for f in fields(SessionOptions)}
    values = {k: v for k, v in given.items() if k not in own}
    _check_names(values, known, "backend.options")
    if isinstance(values.get("compute_capabilities"), list | tuple):  # what is no list _check_types refuses
        values["compute_capabilities"] = tuple(dict.fromkeys(str(c) for c in values["compute_capabilities"]))
    made = BuildOptions(**values)
    _check_types(made, values, "backend.options")
    if made.workspace_mb < 1:
        raise BuildError(f"backend.options.workspace_mb: {made.workspace_mb}", "MiB, at least 1; 512 is the default")
    if made.builder_optimization_level not in LEVELS:
        fact = f"backend.options.builder_optimization_level: {made.builder_optimization_level}"
        raise BuildError(fact, "0 to 5; 3 is the default")
    if made.avg_timing_iterations < 1 or made.max_aux_streams < -1:
        fact = f"avg_timing_iterations {made.avg_timing_iterations}, max_aux_streams {made.max_aux_streams}"
        raise BuildError(f"backend.options: {fact}", "at least 1, and at least -1")
    if made.hardware_compatibility not in COMPATIBILITIES:
        fact = f"backend.options.hardware_compatibility: '{made.hardware_compatibility}'"
        raise BuildError(fact, nearest(made.hardware_compatibility, COMPATIBILITIES))
    return made


def check_session(given: Mapping[str, Any]) -> None:
    """Raises BuildError for what is no option of a session, or out of range."""
    _check_names(given, {f.name: f for f in fields(SessionOptions)}, "backend.session")
    session_options(given)


def check_known(given: Mapping[str, Any]) -> None:
    """Raises BuildError for what is neither an option of a build nor of a session: a folder may bring any."""
    _check_names(given, {f.name: f for kind in (BuildOptions, SessionOptions) for f in fields(kind)}, "backend.options")


def session_options(given: Mapping[str, Any]) -> SessionOptions:
    """Those of `given` that are about running. Raises BuildError for a value out of range."""
    known = {f.name for f in fields(SessionOptions)}
    made = SessionOptions(**{k: v for k, v in given.items() if k in known})
    _check_types(made, given, "backend.session")
    if not 1 <= made.max_cuda_graphs <= _MOST_GRAPHS:
        fix = f"1 to {_MOST_GRAPHS}; backend.session.cuda_graphs=false takes none"
        raise BuildError(f"backend.session.max_cuda_graphs: {made.max_cuda_graphs}", fix)
    return made


def _check_names(values: Mapping[str, Any], known: Mapping[str, Any], where: str) -> None:
    for key in values:
        if key not in known:
            raise BuildError(f"{where}: unknown key '{key}'", nearest(key, known))


def _check_types(made: Any, given: Mapping[str, Any], where: str) -> None:
    for f in fields(made):
        default, value = f.default, getattr(made, f.name)
        if f.name in given and type(value) is not type(default):
            example = _EXAMPLES.get(f.name, json.dumps(default))
            raise BuildError(f"{where}.{f.name}: {value!r}", f"{_WORDS[type(default)]}, as {example}")
