"""Ports: the tensors of a component in the fields of steps, by the component's own names, each with its wire.

{"latent": {"wire": "mel", "role": "reference:flow"}}: what the component calls `latent` is the wire `mel`, and the
artefact under the role `reference:flow` holds its values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypedDict, TypeVar

T = TypeVar("T")


class TensorField(TypedDict):
    """A declared tensor: numpy's name of its dtype; its axes, whole numbers and arithmetic over dims."""

    dtype: str
    shape: Sequence[str | int]


class Port(TypedDict):
    """A tensor of a component, by the wire that it is."""

    wire: str


class SentPort(Port):
    """One whose values another step has written: under which role of this step's needs they are found."""

    role: str


class OutputField(TensorField, Port):
    """One that the component makes, and therefore declares."""


def wires(ports: Mapping[str, Port]) -> dict[str, str]:
    """{own name: wire}."""
    return {name: port["wire"] for name, port in ports.items()}


def by_wire(ports: Mapping[str, Port], values: Mapping[str, T]) -> dict[str, T]:
    """What a component calls by its own names, by wire."""
    return {ports[name]["wire"]: value for name, value in values.items()}


def by_name(ports: Mapping[str, Port], values: Mapping[str, T]) -> dict[str, T]:
    """Of what is known by wire, a component's share, by its own names."""
    return {name: values[port["wire"]] for name, port in ports.items()}


def sent(ports: Mapping[str, SentPort], by_role: Mapping[str, Mapping[str, T]]) -> dict[str, T]:
    """The same where each role has wires of its own."""
    return {name: by_role[port["role"]][port["wire"]] for name, port in ports.items()}


def roles(ports: Mapping[str, SentPort]) -> list[str]:
    """Whose artefacts are read, each once."""
    return sorted({port["role"] for port in ports.values()})
