"""`auto:` among the backends: the first of an order that can build and run a component here, and why no better one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from autovoice.errors import AutovoiceError, Fault, choices
from autovoice.plan.rules.environment import runs_here, timed
from autovoice.spec import BackendOrder, BuildSpec, Component, Gate, Precision, Target


@dataclass(frozen=True)
class Choice:
    """What was chosen for a component, and why each better one was not."""

    component: str
    order: str
    backend: str
    passed: tuple[str, ...]


def with_backends(spec: BuildSpec, faults: list[Fault]) -> BuildSpec:
    """The build with a backend for every component in its `orders`, and a note that says why that one."""
    made: list[Choice] = []
    components = []
    for c in spec.components:
        if c.name in spec.orders:
            c, choice = fitted(c, spec.orders[c.name], faults)
            made.append(choice)
        components.append(c)
    return replace(spec, components=tuple(components), notes=(*choice_notes(made), *spec.notes), orders={})


def fitted(c: Component, order: BackendOrder, faults: list[Fault]) -> tuple[Component, Choice]:
    """The component on the first backend that fits, without one on the last, whose own faults then say the rest."""
    passed: list[str] = []
    for backend in order.backends:
        on = replace(c, backend=backend)
        why = why_not(on)
        if why is None:
            return on, Choice(c.name, order.name, backend.name, tuple(passed))
        passed.append(why)
    fact = f"none of {choices(b.name for b in order.backends)} can build it in {c.precision.name}: {'; '.join(passed)}"
    faults.append(Fault(f"component.{c.name}.backend", fact, "precision=fp32, which every backend has"))
    return c, Choice(c.name, order.name, c.backend.name, tuple(passed))


def first_fit(precision: Precision, order: BackendOrder) -> Choice:
    """What any module would be built on in a precision."""
    made = (Target(""), None, None, (), (), precision, order.backends[-1], Gate({}, {}))
    return fitted(Component("", *made, quantize=precision.quantize), order, [])[1]


def why_not(c: Component) -> str | None:
    """Why its backend cannot build and run the component here; None where it can."""
    name = c.backend.name
    for v in timed(c):
        if v.precision.type not in c.backend.types:
            return f"{name} has no {v.precision.name}"
    for o in c.outputs:
        if not c.backend.takes(o.tensor.dtype):
            return f"{name} has no {o.tensor.dtype} outputs"
    if c.backend.from_module and c.model is None:
        return f"{name} runs modules, and this is an ONNX file"
    try:
        here = all([runs_here(v) for v in timed(c)])
    except AutovoiceError as e:
        return e.fact if e.fact.startswith(name) else f"{name}: {e.fact}"
    return None if here else f"{name} would build for other machines than this one"


def choice_notes(made: Iterable[Choice]) -> tuple[str, ...]:
    """`backend auto → onnxruntime: tensorrt is not installed here`; a line for each different choice."""
    groups: dict[tuple[str, str, tuple[str, ...]], list[str]] = {}
    for c in made:
        groups.setdefault((c.order, c.backend, c.passed), []).append(c.component)
    lines = []
    for (order, backend, passed), names in groups.items():
        where = f" ({', '.join(names)})" if len(groups) > 1 else ""
        lines.append(f"backend {order} → {backend}{where}" + (f": {'; '.join(passed)}" if passed else ""))
    return tuple(lines)
