"""Components joined by tensor names into an ordered graph; every check that needs no tool happens here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from autovoice.errors import ConfigError, Fault, choices, nearest
from autovoice.expr import ExprError, evaluate, symbols
from autovoice.loaders import GROUP, loader_of
from autovoice.spec import POINTS, BuildSpec, Component, Dim, Tensor


@dataclass(frozen=True)
class Graph:
    """A checked pipeline: components in topological order, and who declares which wire."""

    spec: BuildSpec
    components: tuple[Component, ...]
    tensors: Mapping[str, Tensor]
    producers: Mapping[str, str | None]  # wire → component, None for an external input
    inputs: tuple[Tensor, ...]  # the external inputs that some component reads
    outputs: tuple[str, ...]

    @property
    def dims(self) -> Mapping[str, Dim]:
        return self.spec.dims


def build_graph(spec: BuildSpec, faults: Iterable[Fault] = ()) -> Graph:
    """Join, check and order. Raises ConfigError with all faults found, those of the caller first."""
    found = list(faults)
    external = {t.name: t for t in spec.pipeline.inputs}
    tensors, producers = _wires(spec, external, found)
    _check_dims(spec, found)
    for component in spec.components:
        _check_inputs(component, tensors, found)
        _check_choices(component, found)
    _check_shapes(spec, tensors, found)
    for tensor in external.values():
        _check_example(tensor, found)
    order = _ordered(spec.components, producers, found)
    wanted = _outputs(spec, tensors, producers, found)
    if found:
        raise ConfigError(found)
    return _pruned(spec, order, tensors, producers, wanted)


def _wires(
    spec: BuildSpec, external: Mapping[str, Tensor], faults: list[Fault]
) -> tuple[dict[str, Tensor], dict[str, str | None]]:
    tensors, producers = dict(external), dict.fromkeys(external)
    owners: dict[str, str | None] = dict(producers)
    for component in spec.components:
        for output in component.outputs:
            wire = output.tensor.name
            if wire in owners:
                other = owners[wire]
                fact = f"'{wire}' is already produced by " + (f"component.{other}" if other else "pipeline.inputs")
                faults.append(Fault(f"component.{component.name}.outputs.{wire}", fact, "rename one of the two"))
                continue
            tensors[wire], owners[wire] = output.tensor, component.name
    return tensors, owners


def _check_dims(spec: BuildSpec, faults: list[Fault]) -> None:
    free = [d for d in spec.dims.values() if d.formula is None and d.profile is None]
    following = [d for d in spec.dims.values() if d not in free]
    for dims in (free, following):
        before = len(faults)
        _check_bounds(dims, faults)
        if len(faults) > before:  # what follows a dim at fault is at fault with it
            return


def _check_bounds(dims: Iterable[Dim], faults: list[Fault]) -> None:
    for dim in dims:
        where = f"dims.{dim.name}"
        bounds = f"min {dim.min}, opt {dim.opt}, max {dim.max}"
        if not dim.min <= dim.opt <= dim.max:
            faults.append(
                Fault(
                    where, f"needs min ≤ opt ≤ max, got {bounds}", f"set {where}.min, {where}.opt, {where}.max in order"
                )
            )
        elif dim.min < 1:
            why = f" from '{dim.formula}'" if dim.formula else ""
            faults.append(
                Fault(
                    where,
                    f"is {dim.min} at min{why}",
                    f"every dim is at least 1: raise {'the min it follows' if dim.formula else f'{where}.min'}",
                )
            )
        if dim.formula is None and any(v % dim.multiple for v in (dim.min, dim.opt, dim.max)):
            faults.append(Fault(where, f"needs multiples of {dim.multiple}, got {bounds}"))
        outside = [b for b in dim.buckets if not dim.min <= b <= dim.max]
        if outside:
            faults.append(Fault(f"{where}.buckets", f"{outside} lie outside min {dim.min} … max {dim.max}"))


def _check_inputs(component: Component, tensors: Mapping[str, Tensor], faults: list[Fault]) -> None:
    for i in component.inputs:
        where = f"component.{component.name}.inputs.{i.local}"
        tensor = tensors.get(i.wire)
        if tensor is None:
            faults.append(Fault(where, f"no one produces '{i.wire}'", nearest(i.wire, tensors)))
            continue
        if i.dtype is not None and i.dtype != tensor.dtype:
            fact = f"expects {i.dtype}, '{i.wire}' is {tensor.dtype}"
            faults.append(Fault(where, fact, "a component may convert it; wires never do"))
        if i.shape is not None and i.shape != tensor.shape:
            fact = f"expects layout {_shown(i.shape)}, '{i.wire}' is {_shown(tensor.shape)}"
            faults.append(Fault(where, fact, "a component may transpose it; wires never do"))


def _check_choices(component: Component, faults: list[Fault]) -> None:
    precision, backend = component.precision, component.backend
    if precision.type not in backend.types:
        fact = f"{backend.name} cannot run {precision.name} ({precision.type})"
        fix = f"it runs {choices(backend.types)}: precision=fp32 (for one: component.<name>.precision=fp32)"
        faults.append(Fault(f"component.{component.name}.precision", fact, fix))
    if loader_of(backend.target) is None:
        fact = f"nothing could load what {backend.target} builds: it has no name to be found by"
        fix = f'register the class: [project.entry-points."{GROUP}"] {backend.name} = "package.module:Class"'
        faults.append(Fault(f"component.{component.name}.backend", fact, fix))
    for scope, metrics in (
        ("component", component.gate.component),
        ("end_to_end", component.gate.end_to_end),
    ):
        for metric, thresholds in metrics.items():
            if precision.name not in thresholds:
                where = f"gate.{scope}.{metric}"
                fact = f"has no threshold for precision '{precision.name}'"
                faults.append(Fault(where, fact, f"+{where}.{precision.name}=…; it has {choices(thresholds)}"))


def _check_shapes(spec: BuildSpec, tensors: Mapping[str, Tensor], faults: list[Fault]) -> None:
    envs = {p: {d.name: getattr(d, p) for d in spec.dims.values()} for p in POINTS}
    owner = {o.tensor.name: f"component.{c.name}.outputs" for c in spec.components for o in c.outputs}
    sound = not any(f.where.startswith("dims") for f in faults)  # sizes out of wrong dims would mislead
    for tensor in tensors.values():
        where = f"{owner.get(tensor.name, 'pipeline.inputs')}.{tensor.name}.shape"
        for axis in tensor.shape:
            unbound = symbols(axis) - spec.dims.keys()
            for name in sorted(unbound):
                faults.append(Fault(where, f"unbound symbol '{name}'", nearest(name, spec.dims)))
            if sound and not unbound:
                _check_axis(where, axis, envs, faults)
    for component in spec.components:
        _check_narrower(component, spec.dims, tensors, faults)


def _check_axis(where: str, axis: str | int, envs: Mapping[str, Mapping[str, int]], faults: list[Fault]) -> None:
    try:
        sizes = [evaluate(axis, envs[p]) for p in POINTS]
    except ExprError as e:
        faults.append(Fault(where, str(e)))
        return
    if not 1 <= sizes[0] <= sizes[1] <= sizes[2]:
        fact = f"'{axis}' is {sizes[0]} at min, {sizes[1]} at opt, {sizes[2]} at max"
        faults.append(Fault(where, fact, "needs 1 ≤ min ≤ opt ≤ max"))


def _check_narrower(
    component: Component, dims: Mapping[str, Dim], tensors: Mapping[str, Tensor], faults: list[Fault]
) -> None:
    """A component's own limits must hold everything that its producers may send."""
    for name, limits in component.dims.items():
        if name not in dims:
            continue
        for i in component.inputs:
            tensor = tensors.get(i.wire)
            if tensor is None or not any(name in symbols(a) for a in tensor.shape):
                continue
            low, high = limits.get("min", dims[name].min), limits.get("max", dims[name].max)
            if low > dims[name].min or high < dims[name].max:
                fact = f"{name} {low} … {high} is narrower than '{i.wire}' sends, {dims[name].min} … {dims[name].max}"
                fix = f"widen it, or dims.{name}.min={low} dims.{name}.max={high} for the whole pipeline"
                faults.append(Fault(f"component.{component.name}.dims.{name}", fact, fix))
                break


def _check_example(tensor: Tensor, faults: list[Fault]) -> None:
    if tensor.dtype.startswith(("int", "uint")) and tensor.default is None and tensor.example is None:
        fact = f"{tensor.dtype} without a `default:` or an `example:`"
        fix = "parity needs values of a sensible range: example: {integers: [low, high]}"
        faults.append(Fault(f"pipeline.inputs.{tensor.name}", fact, fix))


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
        fact = " → ".join(path)
        faults.append(Fault(f"component.{path[0]}.inputs", f"a cycle: {fact}", "one of these must read another wire"))
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
    read = {i.wire for c in spec.components for i in c.inputs}
    return tuple(w for w, p in producers.items() if p is not None and w not in read)


def _pruned(
    spec: BuildSpec,
    order: tuple[Component, ...],
    tensors: Mapping[str, Tensor],
    producers: Mapping[str, str | None],
    outputs: tuple[str, ...],
) -> Graph:
    """Only what the wanted outputs need; without targets, every component is wanted."""
    kept = {c.name for c in order} if not spec.targets else _ancestors(order, producers, spec.targets)
    components = tuple(c for c in order if c.name in kept)
    read = {i.wire for c in components for i in c.inputs}
    inputs = tuple(t for t in spec.pipeline.inputs if t.name in read)
    return Graph(spec, components, tensors, producers, inputs, outputs)


def _ancestors(order: tuple[Component, ...], producers: Mapping[str, str | None], targets: Iterable[str]) -> set[str]:
    kept = set(targets)
    for component in reversed(order):
        if component.name in kept:
            kept |= {p for i in component.inputs if (p := producers[i.wire])}
    return kept


def _shown(shape: Iterable[str | int]) -> str:
    return "[" + ", ".join(str(a) for a in shape) + "]"
