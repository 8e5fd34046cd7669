"""Every check of a configuration that needs no tool. Each appends its faults to a list."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from autovoice.dims.expressions import ExprError, evaluate, symbols
from autovoice.errors import Fault, choices, nearest
from autovoice.spec import OPTIONAL_METRICS, POINTS, BuildSpec, Component, Dim, Tensor
from autovoice.spec.names import PASSES
from autovoice.spec.registry import GROUP, loader_of


def check_dims(spec: BuildSpec, faults: list[Fault]) -> None:
    free = [d for d in spec.dims.values() if d.formula is None and d.profile is None]
    following = [d for d in spec.dims.values() if d not in free]
    wrong = _reported_bounds(spec.dims, faults)
    for dims in (free, following):
        before = len(faults)
        _check_bounds((d for d in dims if d.name not in wrong), faults)
        if wrong or len(faults) > before:  # what follows a dim at fault is at fault with it
            return


def _reported_bounds(dims: Iterable[str], faults: Iterable[Fault]) -> set[str]:
    """The dims that have no size at some point, as a fault says already: nothing can be said of their order."""
    told = {f.where for f in faults}
    keys = ("", *(f".{key}" for key in (*POINTS, "formula", "profile")))
    return {d for d in dims if any(f"dims.{d}{key}" in told for key in keys)}


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
            faults.append(Fault(where, f"needs multiples of {dim.multiple}, got {bounds}", _even(where, dim)))
        _check_buckets(where, dim, faults)


def _check_buckets(where: str, dim: Dim, faults: list[Fault]) -> None:
    if dim.buckets and dim.formula is not None:
        fix = f"buckets of what it is computed from: {choices(f'dims.{s}.buckets' for s in symbols(dim.formula))}"
        faults.append(Fault(f"{where}.buckets", "a derived dim has no range of its own", fix))
        return
    uneven = [b for b in dim.buckets if b % dim.multiple]
    if uneven:
        even = dict.fromkeys(_up(b, dim.multiple) for b in dim.buckets)
        fact, fix = f"{uneven} are no multiples of {dim.multiple}", f"{where}.buckets={_listed(even)}"
        faults.append(Fault(f"{where}.buckets", fact, fix))
    outside = [b for b in dim.buckets if not dim.min <= b <= dim.max]
    if outside:
        fact = f"{outside} lie outside min {dim.min} … max {dim.max}"
        faults.append(Fault(f"{where}.buckets", fact, _inside(where, dim)))


def _even(where: str, dim: Dim) -> str:
    """Bounds that are multiples, in the same order; those that follow another dim are not the user's to set."""
    if dim.profile is not None:
        return f"{where}.multiple=1, or min, opt and max of its own"
    return " ".join(f"{where}.{p}={_up(v, dim.multiple)}" for p in POINTS if (v := getattr(dim, p)) % dim.multiple)


def _inside(where: str, dim: Dim) -> str:
    """The buckets that are inside, or, of a dim whose bounds are the user's to set, bounds that hold them all."""
    fix = f"{where}.buckets={_listed(b for b in dim.buckets if dim.min <= b <= dim.max)}"
    if dim.profile is not None:
        return fix
    low, high = min(dim.buckets), max(dim.buckets)
    wider = [f"{where}.min={low}"] if low < dim.min else []
    wider += [f"{where}.max={high}"] if high > dim.max else []
    return f"{fix}, or {' '.join(wider)}" if low >= 1 else fix


def _up(size: int, multiple: int) -> int:
    return -(-size // multiple) * multiple


def _listed(sizes: Iterable[int]) -> str:
    return f"[{','.join(map(str, sizes))}]"


def check_inputs(component: Component, tensors: Mapping[str, Tensor], faults: list[Fault]) -> None:
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
            fact = f"expects layout {_format_shape(i.shape)}, '{i.wire}' is {_format_shape(tensor.shape)}"
            faults.append(Fault(where, fact, "a component may transpose it; wires never do"))


def check_choices(component: Component, faults: list[Fault]) -> None:
    precision, backend = component.precision, component.backend
    if not precision.name or not backend.name:  # what there is none of has been told
        return
    unchosen = any(f.where == f"{component.place}.backend" for f in faults)  # none of several: said with the reasons
    if precision.type not in backend.types and not unchosen:
        fact = f"{backend.name} cannot run {precision.name} ({precision.type})"
        fix = f"it runs {choices(backend.types)}: precision=fp32 (for one: component.<name>.precision=fp32)"
        faults.append(Fault(f"{component.place}.precision", fact, fix))
    for name in backend.passes:
        if name not in PASSES and "." not in name:
            where = f"component.{component.name}.backend.passes"
            faults.append(Fault(where, f"there is no pass '{name}'", nearest(name, PASSES)))
    if backend.from_module and component.model is None:
        kind = "one of several, fused" if component.members else "an ONNX file"
        fact = f"{backend.name} runs a component's own module, and this one is {kind}"
        fix = "fuse=null" if component.members else f"component.{component.name}.backend=onnxruntime"
        faults.append(Fault(f"{component.place}.backend", fact, fix))
    higher = component.baseline.precision if component.baseline else None
    if higher is not None and (higher.type not in backend.types or higher.quantize is not None):
        fact = f"{backend.name} cannot be timed in {higher.name} ({higher.type})"
        key = f".{backend.name if backend.name in precision.highers else 'default'}"
        where = f"precision.higher{key if len(precision.highers) > 1 else ''}"
        faults.append(Fault(where, fact, f"{where}=fp32, or another floating point precision that it runs"))
    if loader_of(backend.target) is None:
        fact = f"backend class {backend.target} is not registered, so its engines could not be loaded"
        fix = f'register the class: [project.entry-points."{GROUP}"] {backend.name} = "package.module:Class"'
        faults.append(Fault(f"{component.place}.backend", fact, fix))
    for scope, metrics in (
        ("component", component.gate.component),
        ("end_to_end", component.gate.end_to_end),
    ):
        for metric, thresholds in metrics.items():
            for name in (n for n in _used(component) if n not in thresholds and metric not in OPTIONAL_METRICS):
                where = f"gate.{scope}.{metric}"
                fact = f"has no threshold for precision '{name}'"
                faults.append(Fault(where, fact, f"+{where}.{name}=…; it has {choices(thresholds)}"))


def check_fallback(component: Component, faults: list[Fault]) -> None:
    """A fallback must be something that can be built and loaded."""
    fallback = component.fallback_engine
    if fallback is None:
        return
    where, backend = f"{component.place}.on_mismatch", fallback.backend
    if fallback.precision.type not in backend.types:
        fact = f"{backend.name} cannot run {fallback.precision.name}, which a fallback is built in"
        faults.append(Fault(where, fact, "a backend that can, or fail, or rebuild"))
    if backend.from_module and component.model is None:
        fact = f"{backend.name} runs a component's own module, and this one has none"
        faults.append(Fault(where, fact, f"{where}=fail, or another backend"))
    if loader_of(backend.target) is None:
        fact = f"backend class {backend.target} is not registered, so its engines could not be loaded"
        faults.append(Fault(where, fact, f'register the class: [project.entry-points."{GROUP}"]'))


def check_shapes(spec: BuildSpec, tensors: Mapping[str, Tensor], faults: list[Fault]) -> None:
    envs = {p: {d.name: getattr(d, p) for d in spec.dims.values()} for p in POINTS}
    owner = {o.tensor.name: f"component.{c.name}.outputs" for c in spec.parts for o in c.outputs}
    sound = not any(f.where.startswith("dims") for f in faults)  # sizes out of wrong dims would mislead
    for tensor in tensors.values():
        where = f"{owner.get(tensor.name, 'pipeline.inputs')}.{tensor.name}.shape"
        for axis in tensor.shape:
            unbound = symbols(axis) - spec.dims.keys()
            for name in sorted(unbound):
                faults.append(Fault(where, f"unbound symbol '{name}'", nearest(name, spec.dims)))
            if sound and not unbound:
                _check_axis(where, axis, envs, faults)
    for component in spec.parts if sound else ():
        _check_narrower(component, spec.dims, tensors, faults)


def _check_axis(where: str, axis: str | int, envs: Mapping[str, Mapping[str, int]], faults: list[Fault]) -> None:
    try:
        sizes = [evaluate(axis, envs[p]) for p in POINTS]
    except ExprError as e:
        faults.append(Fault(where, str(e), e.fix))
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


def check_example(tensor: Tensor, faults: list[Fault]) -> None:
    if tensor.dtype.startswith(("int", "uint")) and tensor.default is None and tensor.example is None:
        fact = f"{tensor.dtype} without a `default:` or an `example:`"
        fix = "parity needs values of a sensible range: example: {integers: [low, high]}"
        faults.append(Fault(f"pipeline.inputs.{tensor.name}", fact, fix))


def _used(component: Component) -> list[str]:
    """The precisions that the component's engine may be of."""
    baseline = component.baseline if component.only_if_faster else None
    return [v.precision.judged_as for v in (component.primary, baseline) if v is not None]


def check_calibration(component: Component, faults: list[Fault]) -> None:
    """A precision whose scales come from data needs exactly one place that they come from."""
    if not component.quantized:
        return
    where, c = f"component.{component.name}.calibration", component.calibration
    if component.precision.implicit is not None and component.precision.implicit.cache is not None:
        return  # whether the backend reads it is known where it is asked
    given = [name for name in ("source", "calibrator", "ranges") if getattr(c, name) is not None]
    if not given:
        fact = f"{component.precision.name} needs calibration data, '{c.name}' has none"
        fix = "calibration=npz calibration.files=data.npz, or leave it out: component.<name>.quantize.op_types=[]"
        faults.append(Fault(where, fact, fix))
    elif len(given) > 1:
        fact = f"'{c.name}' has {' and '.join(given)}"
        fix = f"one of them alone: calibration.{given[0]}=null, or calibration.{given[1]}=null"
        faults.append(Fault(where, fact, fix))
    for absent in c.absent:
        faults.append(Fault("calibration.files", absent, "calibration.files=/path/to/file, a folder or a pattern"))


def _format_shape(shape: Iterable[str | int]) -> str:
    return "[" + ", ".join(str(a) for a in shape) + "]"
