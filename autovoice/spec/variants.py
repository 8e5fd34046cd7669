"""The engines that a component is built as."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from autovoice.spec.choices import Backend, Precision, Quantize, Target

if TYPE_CHECKING:
    from autovoice.spec.component import Component

#: roles of an engine; those that a benchmark compares with have names of its own
PRIMARY, BASELINE, FALLBACK = "primary", "baseline", "fallback"


@dataclass(frozen=True)
class EngineVariant:
    """One engine of a component: what it is for, and the choices that it is built by.

    The `primary` engine is the one to be published. A `baseline` is the same graph in a higher precision, which a
    quantized engine is timed against. A `fallback` runs where the primary engine does not fit the machine.
    `suffix` ends the names of its steps.
    """

    component: Component
    role: str
    precision: Precision
    backend: Backend
    quantize: Quantize | None = None
    suffix: str = ""

    @property
    def quantized(self) -> bool:
        """True where the policy quantizes anything, so that ranges are needed."""
        return self.quantize is not None and bool(self.quantize.op_types)

    @property
    def lowering(self) -> Target:
        """The precision's lowering for this backend."""
        return self.precision.lowerings.get(self.backend.name, self.precision.lowering)

    @property
    def higher(self) -> Precision | None:
        """The precision to turn to where this one loses too much, or gains nothing; None where there is none."""
        return self.precision.higher_on(self.backend.name)

    def step(self, kind: str) -> str:
        """The id of its step of a kind."""
        return f"{self.component.name}.{kind}{self.suffix}"
