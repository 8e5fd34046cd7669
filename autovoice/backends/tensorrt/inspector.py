"""Precision truth: what the engine inspector says each layer computes in."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from types import ModuleType
from typing import Any

from autovoice.backends.build import Delivered

#: layers that only move, make or reformat values
_NEUTRAL = ("Reformat", "NoOp", "Constant", "Shuffle", "Reshape", "ShapeHostToDevice", "Signal", "Wait", "Cast")
_HEAVY = ("Convolution", "Deconvolution", "Gemm", "MatrixMultiply", "FullyConnected")
#: what the compiler calls the kernels that it writes where they multiply: _gemm_mha_v2 is a whole attention
_PRODUCTS = re.compile(r"gemm|gemv|mha|conv|_Fc|Dot")
#: what stands in a tensor's format or type → autovoice's name; the first that is found counts
_TYPES = (
    ("bfloat16", ("bf16", "bfloat16")),
    ("float8", ("fp8", "float8", "e4m3")),
    ("float16", ("fp16", "half", "float16")),
    ("int8", ("int8",)),
    ("float32", ("fp32", "float32", "float")),
    ("int64", ("int64",)),
    ("int32", ("int32",)),
    ("bool", ("bool",)),
)


_LOWEST_FIRST = ("float8", "int8", "float16", "bfloat16", "float32")


@dataclass(frozen=True)
class Layer:
    """A layer of an engine: its kind, the ONNX nodes in it, the types it reads and writes, how, and how long."""

    name: str
    kind: str
    nodes: tuple[str, ...]
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    tactic: str
    heavy: bool
    ms: float | None = None

    @property
    def type(self) -> str | None:
        """The type it computes in: of a heavy layer what it reads, of others what they write; None where neutral."""
        if any(self.kind.startswith(n) for n in _NEUTRAL) and not self.heavy:
            return None
        if self.heavy:  # beside what is multiplied there may be a bias or a residual of a higher type
            return next((t for t in _LOWEST_FIRST if t in self.reads), None)
        return next((t for t in self.writes if t in _LOWEST_FIRST), None)


def layers_of(module: ModuleType, engine: Any, heavy_nodes: Iterable[str]) -> list[Layer]:
    """Every layer of a deserialized engine that was built with detailed verbosity."""
    text = engine.create_engine_inspector().get_engine_information(module.LayerInformationFormat.JSON)
    return layers_from_json(text, heavy_nodes)


def layers_from_json(text: str, heavy_nodes: Iterable[str]) -> list[Layer]:
    """The same from the inspector's text. `heavy_nodes` are convolutions and matrix products of the graph."""
    heavy = set(heavy_nodes)
    return [_layer(entry, heavy) for entry in json.loads(text)["Layers"]]


def with_times(layers: Iterable[Layer], times: Mapping[str, float]) -> list[Layer]:
    """Layers with their milliseconds, by name."""
    return [replace(layer, ms=times.get(layer.name)) for layer in layers]


def _layer(entry: Any, heavy: set[str]) -> Layer:
    if isinstance(entry, str):  # built without detailed verbosity: a name and nothing else
        return Layer(entry, "", (), (), (), "", False)
    nodes = _nodes(str(entry.get("Metadata", "")))
    kind = str(entry.get("LayerType", ""))
    known = any(part in heavy for n in nodes for part in (n, *n.split("+")))
    by_kind = any(h.lower() in kind.lower() for h in _HEAVY)
    return Layer(
        str(entry.get("Name", "")),
        kind,
        nodes,
        _types(entry.get("Inputs", ())),
        _types(entry.get("Outputs", ())),
        str(entry.get("TacticName", "")),
        (known or by_kind) and not _beside(kind, f"{entry.get('Name', '')} {entry.get('TacticName', '')}"),
    )


def _beside(kind: str, called: str) -> bool:
    """Of what is named after a product, copies and kernels that only move or scale what it reads or writes."""
    return kind == "Reformat" or (kind == "kgen" and not _PRODUCTS.search(called))


def _nodes(metadata: str) -> tuple[str, ...]:
    """ONNX node names out of `[ONNX Layer: a] [ONNX Layer: b]`, which the parser writes."""
    return tuple(dict.fromkeys(re.findall(r"\[ONNX Layer: ([^\]]+)\]", metadata)))


def _types(tensors: Any) -> tuple[str, ...]:
    return tuple(_type(t) for t in tensors if isinstance(t, Mapping))


def _type(tensor: Mapping[str, Any]) -> str:
    said = " ".join(str(tensor.get(k, "")) for k in ("Format/Datatype", "Datatype", "Format")).lower()
    return next((name for name, words in _TYPES if any(w in said for w in words)), "unknown")


def summary(layers: Iterable[Layer]) -> Delivered:
    """What layers compute in: all of them, the heavy ones, and shares of the time of those whose type is known."""
    layers = list(layers)
    typed = [x for x in layers if x.type is not None]
    return Delivered(
        file=dict(Counter(str(x.type) for x in typed)),
        heavy=dict(Counter(str(x.type) for x in typed if x.heavy)),
        time=_shares(typed),
        layers=len(layers),
    )


def _shares(typed: Iterable[Layer]) -> dict[str, float] | None:
    by: dict[str, float] = {}
    for x in typed:
        if x.ms is not None:
            by[str(x.type)] = by.get(str(x.type), 0.0) + x.ms
    total = sum(by.values())
    return {t: round(ms / total, 4) for t, ms in by.items()} if total else None


def dump(layers: Iterable[Layer]) -> str:
    """As JSON, one layer a line."""
    return "[\n" + ",\n".join(json.dumps(asdict(x)) for x in layers) + "\n]\n"


def load(text: str) -> list[Layer]:
    entries: list[dict[str, Any]] = json.loads(text)
    found = []
    for x in entries:
        values: Any = {k: tuple(v) if isinstance(v, list) else v for k, v in x.items()}
        found.append(Layer(**values))
    return found
