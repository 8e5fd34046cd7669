"""A calibration dataset: one npz of every component's inputs, as `calibration=npz` reads it, and its manifest.

Candidates are drawn by an ordinary `samples` step and travel through the `activations` of everything that feeds
another component, so that they are cached and shared like any other step. One sample at a time is in memory.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from autovoice.calibration.dataset.select import features_of
from autovoice.calibration.observe import Histogram
from autovoice.calibration.samples import entries_of, sample_files
from autovoice.dims.solving import sizes_of
from autovoice.errors import CalibrationError
from autovoice.graph.wiring import Graph
from autovoice.plan.rules import Step
from autovoice.plan.rules.calibration import (
    SAMPLES,
    activations,
    pipeline_samples,
    sample_needs,
    sample_reads,
    upstream,
)
from autovoice.plan.rules.component import source
from autovoice.plan.rules.tensors import tensor
from autovoice.spec import Calibration
from autovoice.store.hashing import uncached_sha256
from autovoice.store.npz import read_npz
from autovoice.store.output import Output

Arrays = Iterator[tuple[str, str, np.ndarray]]


def candidate_steps(graph: Graph, calibration: Calibration) -> list[Step]:
    """The samples, and what every component that feeds another answers to them."""
    steps = pipeline_samples(graph, calibration)
    feeding = upstream(graph, graph.parts)
    for c in graph.parts:
        if c.name in feeding:
            steps += [source(graph, c), activations(graph, c, calibration)]
    return steps


@dataclass(frozen=True)
class Candidates:
    """What was drawn: folders of samples by step, and which component reads what of which."""

    folders: Mapping[str, Path]
    reads: Mapping[str, Mapping[str, tuple[str, str]]]  # component → input → (step, wire)
    files: Sequence[str]
    names: Sequence[str]
    sizes: Sequence[Mapping[str, int]]

    def arrays(self, index: int) -> Arrays:
        """(component, input, array) of one candidate. Raises CalibrationError for values that are not finite."""
        loaded = {step: read_npz(folder / self.files[index]) for step, folder in self.folders.items()}
        for component, inputs in self.reads.items():
            for name, (step, wire) in inputs.items():
                array = loaded[step][wire]
                if not np.isfinite(array).all():
                    fact = f"sample {self.names[index]}: '{wire}', which {component} reads, is not finite"
                    raise CalibrationError(fact, "leave that sample out, or mend what made it")
                yield component, name, array

    def features(self) -> np.ndarray:
        """[candidates, any]: of every tensor once, however many components read it."""
        first = {where: (c, name) for c, inputs in self.reads.items() for name, where in inputs.items()}
        once = set(first.values())
        rows = range(len(self.files))
        return np.array([[f for c, n, a in self.arrays(i) if (c, n) in once for f in features_of(a)] for i in rows])


def candidates_of(
    graph: Graph, calibration: Calibration, folders: Mapping[str, Path], dims: Mapping[str, Any]
) -> Candidates:
    """Those that `candidate_steps` left in these folders, by step."""
    reads: dict[str, dict[str, tuple[str, str]]] = {}
    for c in graph.parts:
        needs = sample_needs(graph, c, calibration)
        pairs = sample_reads(graph, c, calibration).items()
        reads[c.name] = {local: (needs[port["role"]], port["wire"]) for local, port in pairs}
    samples = folders[f"{SAMPLES}_{calibration.name}"]
    entries = entries_of(samples)
    inputs = {t.name: tensor(t) for t in graph.spec.pipeline.inputs}
    used = {step for by in reads.values() for step, _ in by.values()}
    return Candidates(
        {step: folders[step] for step in sorted(used)},
        reads,
        sample_files(samples),
        [e["name"] for e in entries],
        [sizes_of(e["shapes"], inputs, dims) for e in entries],
    )


# -- what an input looks like over the dataset -----------------------------------------------------


@dataclass
class Statistics:
    """One input over all samples, streamed."""

    dtype: str = ""
    shapes: tuple[tuple[int, ...], ...] = ()  # the smallest and the largest size of every axis
    count: int = 0
    total: float = 0.0
    spread: float = 0.0  # the sum of squared distances to the mean
    low: float = math.inf
    high: float = -math.inf
    histogram: Histogram = field(default_factory=Histogram)

    def add(self, array: np.ndarray) -> None:
        values = array.astype(np.float64).ravel()
        mean, n = float(values.mean()), values.size
        if self.count:  # Chan, Golub, LeVeque 1979: two parts' spreads, and how far their means are apart
            apart = mean - self.mean
            self.spread += apart * apart * self.count * n / (self.count + n)
        self.spread += float(np.square(values - mean).sum())
        self.count, self.total = self.count + n, self.total + mean * n
        self.low, self.high = min(self.low, float(values.min())), max(self.high, float(values.max()))
        self.dtype = str(array.dtype)
        sizes = [*self.shapes, array.shape]
        self.shapes = (tuple(map(min, *sizes, array.shape)), tuple(map(max, *sizes, array.shape)))
        if array.dtype.kind == "f":
            self.histogram.add(values)

    @property
    def mean(self) -> float:
        return self.total / self.count

    @property
    def std(self) -> float:
        return math.sqrt(self.spread / self.count)

    def bars(self, count: int) -> np.ndarray:
        """How many values lie in each of `count` equal parts between the smallest and the largest."""
        edges = self.histogram.edges()
        at = ((edges[:-1] + edges[1:]) / 2 - self.low) / (self.high - self.low) * count
        return np.bincount(np.clip(at.astype(int), 0, count - 1), self.histogram.counts, count).astype(int)

    def as_json(self) -> dict[str, Any]:
        low, high = self.shapes
        numbers = {"min": self.low, "max": self.high, "mean": self.mean, "std": self.std}
        return {"dtype": self.dtype, "shapes": [list(low), list(high)], **numbers}


# -- the files -------------------------------------------------------------------------------------


@dataclass
class Dataset:
    """What was written: an entry a sample, and what each (component, input) looks like."""

    samples: list[dict[str, Any]]
    inputs: dict[tuple[str, str], Statistics]


def manifest_of(path: Path) -> Path:
    return path.with_suffix(".json")


def write_dataset(output: Output, candidates: Candidates, chosen: Iterable[int], about: Mapping[str, Any]) -> Dataset:
    """Write the output and the manifest beside it, or neither. Raises CalibrationError, StoreError for the disk."""
    data, path = Dataset([], {}), output.path
    with output.open() as file, replace(output, path=manifest_of(path)).open() as manifest:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
            for number, index in enumerate(chosen):
                data.samples.append(_write_sample(archive, data, candidates, number, index))
        file.flush()
        digest, size = uncached_sha256(Path(file.name)), Path(file.name).stat().st_size
        manifest.write(_manifest({"file": path.name, "sha256": digest, "size": size, **about}, data))
    return data


def _write_sample(
    archive: zipfile.ZipFile, data: Dataset, candidates: Candidates, number: int, index: int
) -> dict[str, Any]:
    entries: dict[str, dict[str, Any]] = {}
    for component, name, array in candidates.arrays(index):
        content = _npy(array)
        entry = f"{component}/{name}/{number:05d}"
        archive.writestr(zipfile.ZipInfo(f"{entry}.npy"), content)  # dated 1980: the same samples, the same file
        digest = hashlib.sha256(content).hexdigest()
        entries[entry] = {"shape": list(array.shape), "size": len(content), "sha256": digest}
        data.inputs.setdefault((component, name), Statistics()).add(array)
    size = sum(e["size"] for e in entries.values())
    return {"name": candidates.names[index], "candidate": index, "size": size, "entries": entries}


def _npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def _manifest(about: Mapping[str, Any], data: Dataset) -> bytes:
    """JSON with a line a sample, so that two datasets can be compared by eye and by diff."""
    inputs = {f"{component}/{name}": s.as_json() for (component, name), s in data.inputs.items()}
    head = {**about, "inputs": inputs}
    lines = ",\n".join(f"  {json.dumps(s)}" for s in data.samples)
    text = json.dumps(head, indent=1).removesuffix("\n}")
    return f'{text},\n "samples": [\n{lines}\n ]\n}}\n'.encode()
