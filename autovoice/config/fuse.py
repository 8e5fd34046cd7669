"""The node `fuse:`, which components become one engine, as groups."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from typing import Any

from autovoice.config.reader import NAME, Reader
from autovoice.errors import Fault, choices, nearest
from autovoice.spec import Group

#: what a group may say for all of its members
SHARED = ("precision", "backend", "gate", "calibration", "only_if_faster", "options")


def read_groups(
    node: Any, names: Collection[str], faults: list[Fault]
) -> tuple[list[Group], dict[str, dict[str, Any]]]:
    """Groups without fault, and {member: what its group says for all of them}.

    A group is a list of components, or {members: […], precision: …, …}.
    """
    found, said = [], dict[str, dict[str, Any]]()
    if node is None:
        return [], {}
    r = Reader(node, "fuse", faults, "{whole: [first, second]}")
    for name, value in r.data.items():
        if not isinstance(value, list | Mapping):
            r.fault(name, f"must be a list of components, got {value!r}", f"fuse.{name}=[first, second]")
            continue
        g = Reader({"members": value} if isinstance(value, list) else value, r.path(name), faults)
        members = g.strings("members")
        shared = {k: v for k in SHARED if (v := g.raw(k)) is not None}
        g.done()
        before = len(faults)
        _check(name, members, names, faults)
        if len(faults) == before:
            found.append(Group(name, members))
            said |= dict.fromkeys(members, shared)
    return _apart(found, faults), said


def _check(name: str, members: tuple[str, ...], names: Collection[str], faults: list[Fault]) -> None:
    where = f"fuse.{name}"
    if not NAME.fullmatch(name):
        faults.append(Fault(where, f"'{name}' cannot name a file", "use letters, digits and _"))
    if name in names:
        faults.append(Fault(where, f"there is a component '{name}' already", "another name for the fused one"))
    for unknown in (m for m in dict.fromkeys(members) if m not in names):
        faults.append(Fault(where, f"unknown component '{unknown}'", nearest(unknown, names)))
    if len(set(members)) < 2:
        fix = f"fuse.{name}=[first, second]; available: {choices(names)}"
        faults.append(Fault(where, f"needs two components or more, got {choices(set(members))}", fix))
    elif len(set(members)) < len(members):
        twice = next(m for m, count in Counter(members).items() if count > 1)
        faults.append(Fault(where, f"names '{twice}' twice", "a component is part of an engine once"))


def _apart(groups: list[Group], faults: list[Fault]) -> list[Group]:
    """The groups none of whose members is in another one, or in one before."""
    owner: dict[str, str] = {}
    found = []
    for group in groups:
        shared = [m for m in group.members if m in owner]
        for m in shared:
            fact = f"'{m}' is in fuse.{owner[m]} too"
            faults.append(Fault(f"fuse.{group.name}", fact, "a component is part of one engine"))
        if not shared:
            owner |= dict.fromkeys(group.members, group.name)
            found.append(group)
    return found


def check_targets(targets: Collection[str], names: Collection[str], groups: list[Group], faults: list[Fault]) -> None:
    """Every target is an engine: a component, or what it is fused into."""
    holders = {m: g.name for g in groups for m in g.members}
    engines = [n for n in (*(g.name for g in groups), *names) if n not in holders]
    for target in dict.fromkeys(targets):
        if target in holders:
            whole = holders[target]
            fact = f"'{target}' is part of the fused component '{whole}'"
            faults.append(Fault("targets", fact, f"targets=[{whole}], or fuse=null"))
        elif target not in engines:
            faults.append(Fault("targets", f"unknown component '{target}'", nearest(target, engines)))


def shared_by(said: Mapping[str, Mapping[str, Any]], name: str, node: Any) -> Any:
    """A component's node under what its group says for all."""
    if not isinstance(node, Mapping):
        return node
    shared = dict(said.get(name, {}))
    own, others = node.get("options"), shared.get("options")
    if isinstance(own, Mapping) and isinstance(others, Mapping):  # by backend, option by option
        both = own.keys() | others.keys()
        if all(isinstance(o.get(b) or {}, Mapping) for o in (own, others) for b in both):
            shared["options"] = {b: {**(own.get(b) or {}), **(others.get(b) or {})} for b in sorted(both)}
    return {**node, **shared}
