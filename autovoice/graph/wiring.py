"""Components joined by tensor names into an ordered, checked graph."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from autovoice.errors import ConfigError, Fault, nearest
from autovoice.graph.fuse import fused
from autovoice.graph.validate import (
    check_calibration,
    check_choices,
    check_dims,
    check_example,
    check_fallback,
    check_inputs,
    check_shapes,
)
from autovoice.graph.validate_dtypes import check_dtypes
from autovoice.spec import BuildSpec, Component, Dim, Tensor


@dataclass(frozen=True)
class Graph:
    """A checked pipeline: components in topological order, and who declares which wire.

    Of a fused component every member declares its own wires, those that no engine gives out among them.
    """

    spec: BuildSpec
    components: tuple[Component, ...]
    tensors: Mapping[str, Tensor]
    producers: Mapping[str, str | None]  # wire → component or member of one, None for an external input
    inputs: tuple[Tensor, ...]  # the external inputs that some component reads
    outputs: tuple[str, ...]

    @property
    def dims(self) -> Mapping[str, Dim]:
        return self.spec.dims

    @property
    def parts(self) -> tuple[Component, ...]:
        """What is exported and referenced: the components, members in place of those that are fused."""
        return tuple(p for c in self.components for p in c.parts)


def build_graph(spec: BuildSpec, faults: Iterable[Fault] = ()) -> Graph:
    """Fuse, join, check and order. Raises ConfigError with all faults found, those of the caller first."""
    found = list(faults)
    spec = replace(spec, components=fused(spec.components, spec.groups, spec.pipeline.outputs, found))
    external = {t.name: t for t in spec.pipeline.inputs}
    tensors, producers = _wires(spec, external, found)
    check_dims(spec, found)
    for part in spec.parts:
        check_inputs(part, tensors, found)
        check_choices(part, found)
        check_calibration(part, found)
    for component in spec.components:
        check_fallback(component, found)
        check_dtypes(component, tensors, found)
        if component.members:
            check_choices(component, found)
    check_shapes(spec, tensors, found)
    for tensor in external.values():
        check_example(tensor, found)
    holders = {p.name: c.name for c in spec.components for p in c.parts}
    engines = {wire: p and holders[p] for wire, p in producers.items()}
    order = _ordered(spec.components, engines, found)
    wanted = _outputs(spec, tensors, producers, found)
    if found:
        raise ConfigError(found)
    kept = {c.name for c in order} if not spec.targets else ancestors(order, engines, spec.targets)
    return _pruned(spec, tuple(c for c in order if c.name in kept), tensors, producers, wanted)


def _wires(
    spec: BuildSpec, external: Mapping[str, Tensor], faults: list[Fault]
) -> tuple[dict[str, Tensor], dict[str, str | None]]:
    tensors, producers = dict(external), dict.fromkeys(external)
    owners: dict[str, str | None] = dict(producers)
    for component in spec.parts:
        for output in component.outputs:
            wire = output.tensor.name
            if wire in owners:
                other = owners[wire]
                fact = f"'{wire}' is already produced by " + (f"component.{other}" if other else "pipeline.inputs")
                faults.append(Fault(f"component.{component.name}.outputs.{wire}", fact, "rename one of the two"))
                continue
            tensors[wire], owners[wire] = output.tensor, component.name
    return tensors, owners


def _ordered(
    components: Iterable[Component], producers: Mapping[str, str | None], faults: list[Fault]
) -> tuple[Component, ...]:
    """Topological order, stable in the order of the configuration; a cycle is reported as its path."""
    left = {c.name: c for c in components}
    needs = {c.name: {p for i in c.inputs if (p := producers.get(i.wire))} for c in left.values()}
    readers: dict[str, list[str]] = {}
    for name, producers_of in needs.items():
        for p in producers_of:
            readers.setdefault(p, []).append(name)
    ready = [name for name in left if not needs[name]]
    order = []
    for name in ready:  # grows while it is walked
        order.append(left.pop(name))
        for reader in readers.get(name, ()):
            needs[reader].discard(name)
            if not needs[reader]:
                ready.append(reader)
    if left:
        path = _cycle({name: needs[name] for name in left})
        fact = f"a cycle: {' → '.join(path)}"
        fused = next((left[n] for n in path if left[n].members), None)
        where = fused.place if fused else f"component.{path[0]}.inputs"
        fix = "fuse all of them into one, or fewer" if fused else "one of these must read another wire"
        faults.append(Fault(where, fact, fix))
    return tuple(order)


def _cycle(needs: Mapping[str, set[str]]) -> list[str]:
    path = [next(iter(needs))]
    while True:
        step = min(needs[path[-1]] & needs.keys())
        if step in path:
            return [*path[path.index(step) :], step]
        path.append(step)


def _outputs(
    spec: BuildSpec, tensors: Mapping[str, Tensor], producers: Mapping[str, str | None], faults: list[Fault]
) -> tuple[str, ...]:
    for wire in spec.pipeline.outputs:
        if producers.get(wire) is None:
            made = [w for w, p in producers.items() if p is not None]
            faults.append(Fault("pipeline.outputs", f"no component produces '{wire}'", nearest(wire, made)))
    if spec.targets:
        return tuple(o.tensor.name for c in spec.components if c.name in spec.targets for o in c.outputs)
    if spec.pipeline.outputs:
        return spec.pipeline.outputs
    read = {i.wire for c in spec.parts for i in c.inputs}
    return tuple(w for w, p in producers.items() if p is not None and w not in read)


def _pruned(
    spec: BuildSpec,
    components: tuple[Component, ...],
    tensors: Mapping[str, Tensor],
    producers: Mapping[str, str | None],
    outputs: tuple[str, ...],
) -> Graph:
    """Of the pipeline's inputs only what these components read."""
    read = {i.wire for c in components for i in c.inputs}
    inputs = tuple(t for t in spec.pipeline.inputs if t.name in read)
    return Graph(spec, components, tensors, producers, inputs, outputs)


def ancestors(order: tuple[Component, ...], producers: Mapping[str, str | None], targets: Iterable[str]) -> set[str]:
    """`targets` and every component upstream of them, out of components in topological order."""
    kept = set(targets)
    for component in reversed(order):
        if component.name in kept:
            kept |= {p for i in component.inputs if (p := producers[i.wire])}
    return kept
