"""A whole build: the pipeline's edge, its dims and components."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

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
class BuildSpec:
    """Everything a build needs to know; `notes` say what was chosen for the user."""

    pipeline: PipelineSpec
    dims: Mapping[str, Dim]
    components: tuple[Component, ...]
    targets: tuple[str, ...] = ()
    timed: bool = False
    notes: tuple[str, ...] = ()

    @property
    def parts(self) -> tuple[Component, ...]:
        """The components with the members of those that are fused in their place."""
        return tuple(p for c in self.components for p in c.parts)

    @property
    def unfused(self) -> BuildSpec:
        """The same pipeline with one engine a member."""
        return replace(self, components=self.parts)
