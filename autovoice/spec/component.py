"""One engine: where its weights come from, its wires, and the choices made for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from autovoice.spec.choices import Backend, Calibration, Export, Gate, Keep, Precision, Quantize, Target
from autovoice.spec.names import FAIL
from autovoice.spec.tensors import Input, Output
from autovoice.spec.variants import BASELINE, FALLBACK, PRIMARY, EngineVariant


@dataclass(frozen=True)
class Checkpoint:
    """Where weights come from: file, nested key, name prefix to strip, and whether names must match."""

    path: Path
    key: str | None = None
    prefix: str = ""
    strict: bool = True


@dataclass(frozen=True)
class OnnxFile:
    """An existing ONNX file and the files beside it that hold its weights, if it does not itself.

    `quantized` are the types of operators by which it is quantized already; none of a float file.
    """

    path: Path
    data: tuple[Path, ...] = ()
    quantized: tuple[str, ...] = ()


#: what a fallback is built in: the graph as it was exported
_AS_EXPORTED = Precision("fp32", "float32", Target("autovoice.onnx_tools.lowering.floating.keep_float32"))


@dataclass(frozen=True)
class Component:
    """One engine: a module, an ONNX file, or `members` merged into one; its wires, and the choices made for it.

    `on_mismatch` says what happens where it is loaded and does not fit: fail, rebuild, or the name of `fallback`.
    `options` are its own, by backend; `backend` and `fallback` have them already.
    """

    name: str
    model: Target | None
    onnx: OnnxFile | None
    checkpoint: Checkpoint | None
    inputs: tuple[Input, ...]
    outputs: tuple[Output, ...]
    precision: Precision
    backend: Backend
    gate: Gate
    calibration: Calibration = Calibration("none")
    quantize: Quantize | None = None
    only_if_faster: bool = False
    on_mismatch: str = FAIL
    fallback: Backend | None = None
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    keep: Keep = Keep()
    export: Export = Export()
    dims: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    seed: int = 0
    members: tuple[Component, ...] = ()

    @property
    def parts(self) -> tuple[Component, ...]:
        """What is exported and referenced one by one: its members in order, or itself."""
        return self.members or (self,)

    @property
    def place(self) -> str:
        """Where it stands in the configuration."""
        return f"fuse.{self.name}" if self.members else f"component.{self.name}"

    @property
    def prequantized(self) -> tuple[str, ...]:
        """The operators of files that are quantized already, which no precision rewrites."""
        return tuple(sorted({op for p in self.parts if p.onnx is not None for op in p.onnx.quantized}))

    def in_file_precision(self) -> Component:
        """Itself; or, where its file is quantized already, with that file's arithmetic in place of a lower precision.

        Gates know it by the precision that was asked for.
        """
        asked = self.precision
        if not self.prequantized or asked.type in ("float32", "tfloat32"):
            return self
        return replace(self, precision=replace(_AS_EXPORTED, name=asked.name, gates=asked.judged_as), quantize=None)

    @property
    def quantized(self) -> bool:
        """True where the policy quantizes anything, so that ranges are needed."""
        return self.quantize is not None and bool(self.quantize.op_types)

    @property
    def primary(self) -> EngineVariant:
        """Its engine, in the precision asked for; where that one's policy leaves out all of it, in the higher one."""
        variant = EngineVariant(self, PRIMARY, self.precision, self.backend, self.quantize)
        if self.quantize is None or variant.quantized or variant.higher is None:
            return variant
        return replace(variant, precision=variant.higher, quantize=None)

    @property
    def baseline(self) -> EngineVariant | None:
        """The same graph in a higher precision, which a quantized engine is timed against; None for any other."""
        higher = self.precision.higher_on(self.backend.name)
        if not self.quantized or higher is None:
            return None
        return EngineVariant(self, BASELINE, higher, self.backend, suffix=f"_{higher.name}")

    @property
    def fallback_engine(self) -> EngineVariant | None:
        """In float32 on its fallback; None without one, or where it is on that backend already."""
        if self.fallback is None or self.fallback.name == self.backend.name:
            return None
        return EngineVariant(self, FALLBACK, _AS_EXPORTED, self.fallback, suffix=f"_{FALLBACK}")
