"""A whole build: the pipeline's edge, its dims and components."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from autovoice.spec.choices import BackendOrder
from autovoice.spec.component import Component
from autovoice.spec.tensors import Dim, Tensor


@dataclass(frozen=True)
class PipelineSpec:
    """The graph's edge: external inputs, the outputs wanted (none: all that nobody reads), free metadata."""

    name: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[str, ...] = ()
    contract: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Group:
    """A name, and the components that are to be one engine of that name."""

    name: str
    members: tuple[str, ...]


@dataclass(frozen=True)
class BuildSpec:
    """Everything a build needs to know; `notes` say what was chosen for the user.

    `groups` are to be fused, which `build_graph` does. Of components in `orders` the backend is still to be chosen
    among several, which `plan.auto` does; until then they have the last of them.
    """

    pipeline: PipelineSpec
    dims: Mapping[str, Dim]
    components: tuple[Component, ...]
    targets: tuple[str, ...] = ()
    timed: bool = False
    notes: tuple[str, ...] = ()
    groups: tuple[Group, ...] = ()
    orders: Mapping[str, BackendOrder] = field(default_factory=dict)

    @property
    def parts(self) -> tuple[Component, ...]:
        """The components with the members of those that are fused in their place."""
        return tuple(p for c in self.components for p in c.parts)
