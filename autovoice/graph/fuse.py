"""Components merged into one engine: whether they can be, and the component that they become."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import reduce
from operator import or_
from typing import Any

from autovoice.errors import Fault, choices
from autovoice.spec import Backend, Calibration, Component, Group, Input, Output

#: what the members of a group have in common; what a group says of them holds for all
COMMON = ("precision", "backend", "only_if_faster", "on_mismatch", "fallback")


def fused(
    parts: Sequence[Component], groups: Iterable[Group], wanted: Iterable[str], faults: list[Fault]
) -> tuple[Component, ...]:
    """The components with each group in the place of its first member; a group at fault is left as it was.

    `wanted` wires of the pipeline are given out even where only members read them.
    """
    found = list(parts)
    for group in groups:
        members = _in_order([p for p in parts if p.name in group.members])
        before = len(faults)
        _check_common(group, members, faults)
        _check_between(group, members, parts, faults)
        if len(faults) > before:
            continue
        place = next(i for i, c in enumerate(found) if c.name in group.members)
        found = [c for c in found if c.name not in group.members]
        found.insert(place, _component(group, members, parts, set(wanted)))
    return tuple(found)


def _component(group: Group, members: Sequence[Component], parts: Iterable[Component], wanted: set[str]) -> Component:
    """Wires are its inputs' and outputs' own names; gates are those of the last member, whose output it gives."""
    last, outside = members[-1], [p for p in parts if p not in members]
    made = {o.tensor.name: o.tensor for m in members for o in m.outputs}
    read = {i.wire: None for m in members for i in m.inputs if i.wire not in made}
    left = wanted | {i.wire for p in outside for i in p.inputs}
    left |= made.keys() - {i.wire for m in members for i in m.inputs}
    policies = [m.quantize for m in members if m.quantize is not None]
    types = sorted({t for q in policies for t in q.op_types})
    options = _options(members)
    return replace(
        last,
        name=group.name,
        model=None,
        onnx=None,
        checkpoint=None,
        backend=last.backend.with_options(options),
        fallback=None if last.fallback is None else last.fallback.with_options(options),
        options=options,
        inputs=tuple(Input(wire, wire) for wire in read),
        outputs=tuple(Output(wire, tensor) for wire, tensor in made.items() if wire in left),
        calibration=_calibration(members),
        quantize=replace(policies[-1], op_types=tuple(types)) if policies else None,
        keep=reduce(or_, (m.keep for m in members)),
        dims={},
        seed=0,
        members=tuple(members),
    )


def _calibration(members: Sequence[Component]) -> Calibration:
    """What a tool that calibrates for itself is fed with, and what the ranges of all are called by."""
    return next((m for m in members if m.quantized), members[-1]).calibration


def _in_order(members: list[Component]) -> list[Component]:
    """Every member after those whose wires it reads; the configuration's order where there is a cycle."""
    left, order = list(members), list[Component]()
    while left:
        made = {o.tensor.name for m in left for o in m.outputs}
        ready = [m for m in left if not any(i.wire in made for i in m.inputs)]
        if not ready:
            return members
        order.append(ready[0])
        left.remove(ready[0])
    return order


# -- what cannot be fused ------------------------------------------------------------------------


def _check_common(group: Group, members: Sequence[Component], faults: list[Fault]) -> None:
    """All but the options that members ask for themselves, of which no two may name different values."""
    _check_options(group, members, faults)
    for key in COMMON:
        values = [getattr(m, key) for m in members]
        if key in ("backend", "fallback"):
            values = _before_options(members, values)
        if all(v == values[0] for v in values):
            continue
        if key == "precision" and (given := [m.name for m in members if m.prequantized]):
            fact = f"{choices(given)}: a file that is quantized already cannot be fused with components to be quantized"
            faults.append(Fault(f"fuse.{group.name}", fact, "leave it out of the group, or precision=fp32"))
            continue
        each = ", ".join(f"{m.name} {_format_value(v)}" for m, v in zip(members, values, strict=True))
        fact = f"its members differ in {key}: {each}"
        fix = f"{{members: {_list(group.members)}, {key}: …}} sets it for all, or component.<name>.{key}"
        faults.append(Fault(f"fuse.{group.name}", fact, fix))


def _check_options(group: Group, members: Sequence[Component], faults: list[Fault]) -> None:
    used = {b.name for m in members for b in (m.backend, m.fallback) if b is not None}
    for backend, options in _options(members).items():
        if backend not in used:
            continue
        for key, value in options.items():
            said = {m.name: own[key] for m in members if key in (own := m.options.get(backend, {}))}
            if any(v != value for v in said.values()):
                each = ", ".join(f"{name} {v}" for name, v in said.items())
                fact = f"its members differ in options.{backend}.{key}: {each}"
                fix = f"{{members: {_list(group.members)}, options: {{{backend}: {{{key}: …}}}}}} sets it for all"
                faults.append(Fault(f"fuse.{group.name}", fact, fix))


def _options(members: Iterable[Component]) -> dict[str, dict[str, Any]]:
    """What members ask for themselves, by backend; of two that name the same one, the last."""
    found: dict[str, dict[str, Any]] = {}
    for m in members:
        for backend, options in m.options.items():
            found.setdefault(backend, {}).update(options)
    return found


def _before_options(members: Sequence[Component], backends: Sequence[Backend | None]) -> list[Backend | None]:
    """Each member's backend with, for an option that it asks for itself, what the first has that does not ask."""
    asked = [m.options.get(b.name, {}) if b is not None else {} for m, b in zip(members, backends, strict=True)]
    base: dict[str, Any] = {}
    for own, backend in zip(asked, backends, strict=True):
        base |= {k: v for k, v in (backend.options if backend else {}).items() if k not in own and k not in base}
    found = []
    for own, backend in zip(asked, backends, strict=True):
        if backend is not None:
            kept = {k: v for k, v in backend.options.items() if k not in own}
            backend = replace(backend, options=kept | {k: base[k] for k in own if k in base})
        found.append(backend)
    return found


def _format_value(value: Any) -> str:
    return str(getattr(value, "name", value)).lower()


def _list(names: Iterable[str]) -> str:
    return f"[{', '.join(names)}]"


def _check_between(group: Group, members: Sequence[Component], parts: Sequence[Component], faults: list[Fault]) -> None:
    """What reads from one member and feeds another must be a member too: one engine cannot wait for it."""
    path = _path_outside(members, parts)
    if path:
        start, *between, end = path
        needed = choices(between)
        fact = f"{needed} stand{'s' if len(between) == 1 else ''} between {start} and {end}"
        whole = [p.name for p in parts if p in members or p.name in between]
        fix = f"fuse.{group.name}={_list(whole)}, or leave one of the two out"
        faults.append(Fault(f"fuse.{group.name}", fact, fix))


def _path_outside(members: Sequence[Component], parts: Sequence[Component]) -> list[str]:
    """The shortest way from a member to a member through others; nothing where there is none."""
    readers = _readers(parts)
    own = {m.name for m in members}
    ways = [[m.name, r] for m in members for r in readers[m.name] if r not in own]
    seen: set[str] = set()
    for way in ways:  # grows while it is walked
        if way[-1] in own:
            return way
        if way[-1] not in seen:
            seen.add(way[-1])
            ways += [[*way, r] for r in readers[way[-1]]]
    return []


def _readers(parts: Sequence[Component]) -> Mapping[str, list[str]]:
    """Component → who reads what it makes, in the order of the configuration."""
    makers = {o.tensor.name: p.name for p in parts for o in p.outputs}
    found: dict[str, list[str]] = {p.name: [] for p in parts}
    for p in parts:
        for maker in dict.fromkeys(makers[i.wire] for i in p.inputs if i.wire in makers):
            found[maker].append(p.name)
    return found
