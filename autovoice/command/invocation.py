"""One command: its settings, and, only when a task asks, the checked graph, its plan and its place."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from autovoice.config.lookup import AUTO, Lookup
from autovoice.config.schema import SpecReader
from autovoice.config.settings import Settings, read_settings
from autovoice.config.task_options import EVERY
from autovoice.errors import Fault
from autovoice.graph.wiring import Graph, build_graph
from autovoice.plan import code
from autovoice.plan.auto import with_backends
from autovoice.plan.code import add_cwd_to_path
from autovoice.plan.planner import Plan, make_plan
from autovoice.spec import BuildSpec
from autovoice.store.artefacts import Store


def read_spec(data: Mapping[str, Any], lookup: Lookup) -> tuple[BuildSpec, list[Fault]]:
    """What composed data means, with a backend chosen wherever it leaves the choice, and the faults found so far."""
    reader = SpecReader(data, lookup)
    return with_backends(reader.build(), reader.faults), reader.faults


class Invocation:
    """What a task works with. Everything is computed at its first use."""

    def __init__(self, data: Mapping[str, Any], overrides: tuple[str, ...], lookup: Lookup) -> None:
        self.data = data
        self.overrides = overrides
        self.lookup = lookup
        self._store: Store | None = None

    @cached_property
    def settings(self) -> Settings:
        return read_settings(self.data, cores=len(os.sched_getaffinity(0)))

    @cached_property
    def graph(self) -> Graph:
        spec, faults = read_spec(self.data, self.lookup)
        return build_graph(spec, faults)

    @cached_property
    def whole_graph(self) -> Graph:
        """The graph with everything downstream of `targets` too, nothing fused, for tasks that only look at these."""
        spec, faults = read_spec(self.data, self.lookup)
        return build_graph(replace(spec, groups=(), targets=()), faults)

    @property
    def store(self) -> Store:
        if self._store is None:
            self._store = Store(self.settings.outputs / "store")
            self._store.memory.load_hashes()
            code.remember(self._store.memory.load(_IMPORTS))
        return self._store

    def save_memory(self) -> None:
        """Save what was learned of files and of code, where a task has asked for the store."""
        if self._store is None:
            return
        self._store.memory.save_hashes()
        imports = code.learned()
        if imports is not None:
            self._store.memory.save(_IMPORTS, imports)

    def check(self) -> None:
        """Raise ConfigError for a configuration that cannot be built."""
        _ = self.settings, self.graph

    @cached_property
    def plan(self) -> Plan:
        add_cwd_to_path()
        code.forget()  # a job of a sweep may come long after the one before it
        return make_plan(self.graph, self.store)

    @cached_property
    def folder(self) -> Path:
        """Where the build's results stand: two different builds never share a folder."""
        choices = {(c.backend.name, c.precision.name) for c in self.graph.components}
        identity = self.identity
        if len(choices) > 1:
            per_component = [[c.name, c.backend.name, c.precision.name] for c in self.graph.components]
            name = f"mixed-{_short([per_component, identity])}"
        else:
            ((backend, precision),) = choices
            name = f"{backend}-{precision}" + (f"-{_short(identity)}" if identity else "")
        return self.settings.outputs / self.graph.spec.pipeline.name / name

    @cached_property
    def identity(self) -> list[str]:
        """The overrides that make this another build than the folder's path alone says."""
        said = {"pipeline": {self.graph.spec.pipeline.name}} | {
            k: {getattr(c, k).name for c in self.graph.components} for k in ("backend", "precision")
        }
        if not self._overlaid:
            said["backend"] |= self._auto
        # a sweep spells `~component.x` as `~component.x=null`; of two overrides for one key the later counts
        spelled = (o.removesuffix("=null") if o.startswith("~") else o for o in self.overrides)
        last = {o.lstrip("+~").partition("=")[0]: o for o in spelled}
        return sorted(o for o in last.values() if _identifies(o, said))

    @property
    def _auto(self) -> set[str]:
        """The name of the group's option that leaves the choice of a backend to this machine."""
        node = self.data.get("backend")
        return {str(node["name"])} if isinstance(node, Mapping) and AUTO in node else set()

    @property
    def _overlaid(self) -> bool:
        """True where that option gives a chosen backend other options than its own."""
        node = self.data.get("backend")
        over = (node[AUTO].get("options") or {}) if isinstance(node, Mapping) and AUTO in node else {}
        return any(over.get(c.backend.name) for c in self.graph.components)

    @property
    def title(self) -> str:
        """`voice_conversion on onnxruntime, fp16 (vocoder fp32)`."""
        components = self.graph.components
        common = [_commonest([getattr(c, k).name for c in components]) for k in ("backend", "precision")]
        odd = []
        for c in components:
            differs = [
                getattr(c, k).name
                for k, name in zip(("precision", "backend"), common[::-1], strict=True)
                if getattr(c, k).name != name
            ]
            if differs:
                odd.append(f"{c.name} {' '.join(differs)}")
        return f"{self.graph.spec.pipeline.name} on {common[0]}, {common[1]}" + (f" ({', '.join(odd)})" if odd else "")


#: under what the store remembers what each module imports
_IMPORTS = "imports"
#: what says where things are, whose engines to load, and how to run
_PLACES = ("paths", "engines", "hydra")


def _identifies(override: str, said: Mapping[str, set[str]]) -> bool:
    """True for an override that makes another build, unless the folder's path says it already."""
    key, _, value = override.lstrip("+~").partition("=")
    if key in said:
        return value not in said[key]
    if key == "targets":  # leaves out part of the graph: another build
        return True
    top = re.split(r"[./]", key)[0]
    return key != "task" and top not in EVERY and top not in _PLACES


def _short(data: Any) -> str:
    return hashlib.sha256(json.dumps(data).encode()).hexdigest()[:6]


def _commonest(names: list[str]) -> str:
    return max(dict.fromkeys(names), key=names.count)
