"""`task=calibration_data output=data.npz`: a calibration dataset out of recordings, and what is in it."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from autovoice.calibration.dataset.report import summary
from autovoice.calibration.dataset.select import SELECTIONS, cover, coverage_of, places_of, random
from autovoice.calibration.dataset.signature import parameters_of
from autovoice.calibration.dataset.write import Candidates, candidate_steps, candidates_of, manifest_of, write_dataset
from autovoice.command.builds import run_steps
from autovoice.command.invocation import Invocation
from autovoice.config.choices import ChoiceReader
from autovoice.config.compose import user_tree
from autovoice.config.experiment import relative_path
from autovoice.config.reader import Reader
from autovoice.config.task_options import EVERY
from autovoice.errors import ConfigError, Fault, nearest
from autovoice.spec import Calibration, Target
from autovoice.store.artefacts import Record
from autovoice.store.json_files import read_json
from autovoice.store.output import Output
from autovoice.tasks.plan import tell
from autovoice.tasks.run import output_of
from autovoice.terminal.escape import say
from autovoice.terminal.overrides import setting
from autovoice.terminal.table import megabytes

EXAMPLE = "autovoice task=calibration_data input=my_recordings/ output=data.npz samples=100"
#: candidates for a sample, and the most of them that are drawn for the sake of choice alone
FACTOR, MOST = 4, 1000
#: what the steps of candidates are called after
_NAME = "dataset"


@dataclass(frozen=True)
class Request:
    """The options of this task."""

    output: Path
    input: str | None
    samples: int
    seed: int
    selection: str

    @property
    def candidates(self) -> int:
        return self.samples if self.selection == "first" else max(self.samples, min(FACTOR * self.samples, MOST))


def run(invocation: Invocation) -> int:
    request = _request(invocation)
    invocation.check()
    calibration = _calibration(invocation, request)
    output = _output(invocation, request, calibration)
    tell(invocation.graph)
    store = invocation.store
    with store.in_use():
        records = run_steps(invocation, candidate_steps(invocation.graph, calibration))
        folders = {step: store.folder(r.key) for step, r in records.items()}
        dims = records[f"coverage_{_NAME}"].inputs["fields"]["dims"]
        candidates = candidates_of(invocation.graph, calibration, folders, dims)
        chosen = _chosen(request, candidates, dims)
        coverage = coverage_of([candidates.sizes[i] for i in chosen], dims)
        about = _about(invocation, request, calibration, records, len(candidates.files)) | {"coverage": coverage}
        data = write_dataset(output, candidates, chosen, about)
    size, drawn = megabytes(request.output.stat().st_size), len(candidates.files)
    say(f"{request.output}: {len(chosen)} of {drawn} candidates ({request.selection}), {size}", "")
    print(summary(data, coverage, request.samples))
    say(str(manifest_of(request.output)), _use(invocation, request))
    return 0


# -- what is asked for -----------------------------------------------------------------------------


def _request(invocation: Invocation) -> Request:
    """Raises ConfigError with every fault."""
    r = Reader(invocation.data, "", [])
    output = r.take("output", str, None)
    request = Request(
        Path(output or ""),
        r.take("input", str, None),
        r.take("samples", int, 100),
        r.take("seed", int, 0),
        r.take("selection", str, "coverage", "coverage"),
    )
    if request.samples < 1:
        r.fault("samples", f"must be at least 1, got {request.samples}", "samples=100")
    if request.seed < 0:
        r.fault("seed", f"must not be negative, got {request.seed}", "seed=0")
    if request.selection not in SELECTIONS:
        fact = f"unknown selection '{request.selection}'"
        r.fault("selection", fact, nearest(request.selection, SELECTIONS))
    r.faults += [Fault("output", "task=calibration_data needs output=", EXAMPLE)] if output is None else []
    if output is not None and request.output.suffix != ".npz":
        fix = f"output={request.output.with_suffix('.npz') if request.output.name else 'data.npz'}"
        r.faults.append(Fault("output", f"{request.output} is no .npz file", fix))
    if r.faults:
        raise ConfigError(r.faults)
    return request


def _output(invocation: Invocation, request: Request, calibration: Calibration) -> Output:
    """The dataset's file, which can be written and has room for its manifest. Raises ConfigError."""
    output = output_of(invocation, {f"calibration.files ({n})": p for n, p in calibration.files})
    manifest = replace(output, path=manifest_of(request.output))
    faults = [f for f in (output.fault(), manifest.fault()) if f is not None][:1]
    if manifest.target.is_file() and not _is_manifest(manifest.target):
        fact = f"its manifest {manifest.path} would replace a file that is none"
        faults = [Fault("output", fact, "move it away, or give another name: output=other.npz")]
    if faults:
        raise ConfigError(faults)
    return output


def _is_manifest(path: Path) -> bool:
    try:
        data = read_json(path, follow=True)
    except (OSError, ValueError):
        return False
    return isinstance(data, dict) and {"samples", "selection", "provenance"} <= data.keys()


def _calibration(invocation: Invocation, request: Request) -> Calibration:
    """The composed calibration, drawing as many candidates as are wanted, of `input` where it is given."""
    node = dict(invocation.data.get("calibration") or {})
    if request.input is not None:
        node["files"] = request.input
    reader = ChoiceReader(invocation.data, invocation.lookup)
    spec = reader.calibration(Reader(node, "calibration", reader.faults))
    reader.faults += _undrawable(spec, request.input)
    if reader.faults or spec.source is None:
        raise ConfigError(reader.faults)
    asked = {"samples": request.candidates, "seed": request.seed}
    takes = spec.source.kwargs.keys() | (parameters_of(spec.source.path) or set())
    kwargs = dict(spec.source.kwargs) | {k: v for k, v in asked.items() if k in takes}
    least = min(spec.min_samples, request.samples)
    return replace(spec, name=_NAME, source=Target(spec.source.path, kwargs), min_samples=least)


def _undrawable(spec: Calibration, setting: str | None) -> Iterator[Fault]:
    fix = "calibration=speech, or another that has a `source:` and level: pipeline"
    if spec.source is None:
        yield Fault("calibration", f"'{spec.name}' has no source to draw samples from", fix)
    elif spec.level != "pipeline":
        yield Fault("calibration", f"'{spec.name}' has samples of single components (level {spec.level})", fix)
    takes = parameters_of(spec.source.path) if spec.source is not None else None
    if setting is not None and takes is not None and "files" not in takes:
        yield Fault("input", f"the source of calibration '{spec.name}' reads no files", "input=null, or " + fix)
    where = "calibration.files" if setting is None else "input"
    for fact in spec.absent:
        yield Fault(where, fact, f"{where}=/path/to/file, a folder or a pattern")


def _chosen(request: Request, candidates: Candidates, dims: Mapping[str, Any]) -> Sequence[int]:
    available = len(candidates.files)
    if request.selection == "random":
        return random(available, request.samples, request.seed)
    if request.selection == "first" or available <= request.samples:
        return range(min(available, request.samples))
    places = places_of(candidates.sizes, dims)
    return cover(places, candidates.features(), request.samples, request.seed)


def _about(
    invocation: Invocation, request: Request, calibration: Calibration, records: Mapping[str, Record], drawn: int
) -> dict[str, Any]:
    """What the manifest says of where the samples come from."""
    assert calibration.source is not None
    inputs = records[f"samples_{_NAME}"].inputs
    files = {n: {"path": str(p), "sha256": inputs["files"][f"data {n}"]} for n, p in calibration.files}
    tools: dict[str, str] = {}
    for record in records.values():
        tools |= record.inputs["tools"]
    return {
        "pipeline": invocation.graph.spec.pipeline.name,
        "selection": request.selection,
        "seed": request.seed,
        "wanted": request.samples,
        "candidates": drawn,
        "provenance": {
            "calibration": invocation.data["calibration"]["name"],
            "source": calibration.source.path,
            "kwargs": dict(calibration.source.kwargs),
            "files": files,
            "steps": {step: r.key for step, r in records.items()},
        },
        "tools": dict(sorted(tools.items())),
    }


def _use(invocation: Invocation, request: Request) -> str:
    """The command that builds with the data."""
    tree = user_tree()
    words = ["autovoice", *([] if tree is None else ["--config-dir", relative_path(tree)])]
    words += [*_kept(invocation), "precision=int8", "calibration=npz"]
    return f"{shlex.join(words)} {setting('calibration.files', str(request.output))}"


def _kept(invocation: Invocation) -> Iterator[str]:
    """The overrides that describe the model: whoever uses the data repeats them."""
    for override in invocation.overrides:
        key = override.lstrip("+~").partition("=")[0]
        own = key in EVERY - {"targets"} or key.split(".")[0] in ("task", "calibration", "precision", "hydra")
        if not own:
            yield override
