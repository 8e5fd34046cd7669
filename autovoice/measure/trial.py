"""One component lowered under one policy after another, and what each answers: sensitivity and search."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx

from autovoice.onnx_tools.lowering.policy import quantizable
from autovoice.onnx_tools.ort import float_session
from autovoice.spec import SNR_EQUAL

if TYPE_CHECKING:
    from autovoice.spec.fields import KeepField, QuantizeField, TargetField

Feeds = Mapping[str, np.ndarray]
Runner = Callable[[Feeds], dict[str, np.ndarray]]


@dataclass(frozen=True)
class Trial:
    """An exported component with its ranges, the lowering to try, and a place for the files it makes.

    What is lowered runs in ONNX Runtime, which executes Q/DQ graphs of every kind as they stand.
    """

    export: Path
    ranges: Path
    lowering: TargetField
    keep: KeepField
    outputs: tuple[str, ...]
    work: Path

    def lowered(self, nodes: Collection[str]) -> Runner:
        """The component with these nodes alone quantized."""
        if not nodes:
            return self.float32()
        module, _, name = self.lowering["target"].rpartition(".")
        target = self.work / "trial.onnx"
        function = getattr(importlib.import_module(module), name)
        policy = policy_of(onnx.load(self.export), nodes)
        function(self.export, target, self.keep, policy, self.ranges, **self.lowering["kwargs"])
        try:
            return runner(target, self.outputs)
        finally:
            target.unlink()

    def float32(self) -> Runner:
        return runner(self.export, self.outputs)


def runner(path: Path, outputs: tuple[str, ...]) -> Runner:
    session = float_session(path)
    names = list(outputs)
    return lambda feeds: dict(zip(names, session.run(names, dict(feeds)), strict=True))


def policy_of(model: onnx.ModelProto, nodes: Collection[str]) -> QuantizeField:
    """The policy that means exactly these nodes, by `nodes`: patterns would mean nodes called as another's weight."""
    types = {n.name: n.op_type for n in quantizable(model)}
    op_types = sorted({types[n] for n in nodes})
    return {"op_types": op_types, "include": [], "exclude": [], "first": True, "last": True, "nodes": sorted(nodes)}


class Noise:
    """Signal-to-noise ratio over many tensors, as if they were one."""

    def __init__(self) -> None:
        self.signal = self.noise = 0.0

    def add(self, got: np.ndarray, reference: np.ndarray) -> None:
        self.signal += float(np.square(reference, dtype=np.float64).sum())
        self.noise += float(np.square(got.astype(np.float64) - reference).sum())

    @property
    def db(self) -> float:
        """10·log10(Σ reference² / Σ error²), between -200 and 200; 200 where nothing differs."""
        if not np.isfinite(self.noise):
            return -SNR_EQUAL
        if self.noise == 0:
            return SNR_EQUAL
        ratio = self.signal / self.noise
        return float(np.clip(10 * np.log10(ratio), -SNR_EQUAL, SNR_EQUAL)) if ratio > 0 else -SNR_EQUAL
