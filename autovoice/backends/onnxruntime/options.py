"""The options of the YAML of ONNX Runtime, checked while a build is planned: imports no tool."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from typing import Any

from autovoice.errors import BuildError, brief, choices, nearest
from autovoice.spec import Backend

OPTIONS = ("providers", "graph_optimization_level", "intra_op_num_threads")
LEVELS = ("disabled", "basic", "extended", "all")
#: more than any machine gains from; options may come with a folder from elsewhere
MOST_THREADS = max(256, 4 * (os.cpu_count() or 1))
CPU = "CPUExecutionProvider"
_WHERE = "backend.options"


def environment(backend: Backend, precision: str) -> None:
    """What an engine depends on beside its graph: nothing. Raises BuildError for options that are wrong."""
    for way in ({}, *backend.after_crash):
        check_options({**backend.options, **way})


def check_options(options: Mapping[str, Any]) -> None:
    """Raises BuildError for an unknown key, another type, or a value that means nothing."""
    for key in options:
        if key not in OPTIONS:
            raise BuildError(f"{_WHERE}: unknown key '{brief(key)}'", nearest(key, OPTIONS))
    providers = options.get("providers") or [CPU]
    if not isinstance(providers, list | tuple) or not all(isinstance(p, str) for p in providers):
        fact = f"{_WHERE}.providers: {brief(repr(providers))} is no list of names"
        raise BuildError(fact, f"{_WHERE}.providers=[{CPU}]")
    if len(set(providers)) < len(providers):
        ((twice, _),) = Counter(providers).most_common(1)
        raise BuildError(f"{_WHERE}.providers: {brief(twice)} is there twice", "name each provider once")
    level = options.get("graph_optimization_level", "all")
    if not isinstance(level, str) or level not in LEVELS:
        raise BuildError(f"{_WHERE}.graph_optimization_level: {brief(repr(level))}", f"one of {choices(LEVELS)}")
    threads = options.get("intra_op_num_threads", 0)
    if type(threads) is not int or threads < 0:
        raise BuildError(
            f"{_WHERE}.intra_op_num_threads: {brief(repr(threads))}", "a whole number; 0 takes one per core"
        )
    if threads > MOST_THREADS:
        fix = f"at most {MOST_THREADS}; 0 takes one per core"
        raise BuildError(f"{_WHERE}.intra_op_num_threads: {brief(str(threads))}", fix)
