"""Dimensions and the wires between components."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Axis = str | int


@dataclass(frozen=True)
class Dim:
    """A named dimension: free (min, opt, max are its profile) or derived (`formula` over other dims).

    `profile` is the expression that min, opt and max of a free dim were computed from, if they were.
    """

    name: str
    min: int
    opt: int
    max: int
    formula: str | None = None
    profile: str | None = None
    multiple: int = 1
    trace: int = 0
    buckets: tuple[int, ...] = ()


@dataclass(frozen=True)
class Tensor:
    """A wire of the graph, declared once by whoever produces it.

    `audio` is the sample rate in Hz of a waveform along the last axis, None for anything else.
    """

    name: str
    dtype: str
    shape: tuple[Axis, ...]
    default: Any = None
    example: Mapping[str, Any] | None = None
    audio: int | None = None


@dataclass(frozen=True)
class Input:
    """A component's input: its own name, the wire it reads, and what it insists on, if anything."""

    local: str
    wire: str
    dtype: str | None = None
    shape: tuple[Axis, ...] | None = None


@dataclass(frozen=True)
class Output:
    """A component's output: its own name and the wire it declares."""

    local: str
    tensor: Tensor
