"""`task=build`: what will run and why, the steps as they finish, and a table of what came out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from autovoice.command.builds import Built, build
from autovoice.command.invocation import Invocation
from autovoice.measure.gates import least_snr
from autovoice.plan.retries import backend_options, retry_of
from autovoice.plan.rules import engine_of
from autovoice.plan.rules.environment import runs_here
from autovoice.plan.rules.fallback import SUFFIX
from autovoice.plan.rules.gate_subject import by_graph, gate_subject
from autovoice.plan.rules.step import export_of
from autovoice.spec import AUDIO_METRICS, SNR_EQUAL, Component
from autovoice.store.artefacts import Record
from autovoice.tasks.plan import format_plan, headline
from autovoice.terminal.escape import escaped, say
from autovoice.terminal.table import megabytes, seconds, table


def run(invocation: Invocation) -> int:
    build_and_tell(invocation)
    return 0


def build_and_tell(invocation: Invocation) -> Built:
    """Build, telling the whole story when something runs and one line when nothing does."""
    invocation.check()  # a wrong configuration leaves no trace on the disk
    store = invocation.store
    with store.in_use():  # from the plan on: nothing that it counts on may be removed meanwhile
        working, existed = bool(invocation.plan.to_run), invocation.folder.is_dir()
        if working:
            store.prepare()  # where it cannot be written, that is all there is to tell
            print(f"{headline(invocation)}\n\n{format_plan(invocation.plan, only_runs=True)}\n", flush=True)
        built = build(invocation)
    manifest = built.folder / "manifest.json"
    if working:
        print(f"\n{summary(built)}\n{escaped(str(manifest))}", flush=True)
        return built
    done = f"{'restored' if existed else 'wrote'} {', '.join(built.written)}" if built.written else "nothing to do"
    line = f"{invocation.title}: {done}, {len(built.plan.steps)} steps reused → {manifest}"
    say(*invocation.graph.spec.notes, line)
    return built


def summary(built: Built) -> str:
    """A row a component: precision asked and delivered, size, worst parity, latency where measured, time spent now."""
    components = built.plan.graph.components
    rows = [_row(c, built) for c in components]
    timed = built.records.get("latency")
    whole = f"{timed.result['ms']:.4g} ms" if timed else ""
    parity = _parity(built.records.get("end_to_end"), any(map(by_graph, components)))
    rows.append(["end to end", "", "", "", *parity, whole, _spent(built, "")])
    columns = ["component", "asked", "delivered", "file", "worst parity", "at", "latency", "time"]
    if not whole and not any(f"{c.name}.race" in built.records for c in components):
        rows, columns = [[*row[:-2], row[-1]] for row in rows], [c for c in columns if c != "latency"]
    notes = dict.fromkeys(n for c in components for n in _notes(c, built))
    told = [*_calibrated(built), *_standing_by(components, built), *_elsewhere(components, built), *notes]
    told += dict.fromkeys(_noted(built))
    return "\n".join([table(columns, rows), *map(escaped, told)])


def _row(c: Component, built: Built) -> list[str]:
    record = built.records[engine_of(c)].result
    ratio = _ratio(c, built)
    race = f"{ratio:.2f}× {c.higher.name}" if ratio is not None and c.higher else ""
    return [
        c.name,
        c.precision.name,
        _delivered(c, record),
        megabytes(record["size"]),
        *_parity(built.records.get(f"{c.name}.verify"), by_graph(c)),
        race,
        _spent(built, c.name, *(m.name for m in c.members)),
    ]


def _delivered(c: Component, record: Mapping[str, Any]) -> str:
    """`fp16 41/43 nodes`; of a quantized one the convolutions and matrix products, which are all it is about."""
    if record.get("chosen") not in (None, c.precision.name):
        return f"{record['chosen']}, faster"
    if c.settled is not c:
        return f"{_delivered(c.settled, record)}, by policy"
    kind, unit = ("heavy", "Conv/MatMul") if c.quantized else ("file", record["delivered"].get("unit", "nodes"))
    counts = record["delivered"].get(kind, record["delivered"]["file"])
    if c.prequantized:  # whatever was asked, it is what it was
        told = ", ".join(f"{kind} {count}" for kind, count in sorted(counts.items()))
        return f"as it is: {told or 'no'} {unit}"
    if c.precision.type == "tfloat32":  # a way to multiply float32, which no tool tells of a layer
        return f"fp32 {counts.get('float32', 0)}/{sum(counts.values())} {unit}, {c.precision.name} allowed"
    chosen = "quantized_by" in record["delivered"] and counts  # by the builder, which may choose none
    if c.quantized and c.precision.type not in counts and not chosen:
        return f"nothing of its {sum(counts.values())} Conv/MatMul to quantize" if counts else "nothing to quantize"
    return f"{c.precision.name} {counts.get(c.precision.type, 0)}/{sum(counts.values())} {unit}"


def _ratio(c: Component, built: Built) -> float | None:
    """The time of a quantized build over that of the higher one; None where they are not two."""
    race = built.records.get(f"{c.name}.race")
    ratio: float | None = race.result["ratio"] if race else None
    return ratio


def _parity(record: Record | None, graph: bool = False) -> list[str]:
    """`67.1 dB ≥ 30` and the point where it is worst; identical outputs say so, and a graph that stood in.

    Where every reference is nothing but rounding, no ratio to it is a figure.
    """
    if record is None:
        return ["not run here", ""]
    result = record.result
    measured = result["parity"].items()
    entries = [(db, at) for at, wires in measured for p in wires.values() if (db := p["snr_db"]) is not None]
    if not entries:
        return ["not meaningful", ""]
    worst, point = min(entries)
    gate = result["gates"].get("snr_db")
    what = "graph " if graph else ""
    if worst >= SNR_EQUAL:
        return [f"{what}identical", ""]
    return [f"{what}{worst:.1f} dB" + (f" ≥ {gate:g}" if gate is not None else ""), point]


def _calibrated(built: Built) -> Iterator[str]:
    """What scales were made from, and what each component costs at the pipeline's end."""
    for step, record in built.records.items():
        if "coverage" in record.result:
            covered = (
                f"{dim} {c['seen'][0]} … {c['seen'][1]} of {c['profile'][0]} … {c['profile'][1]}"
                for dim, c in record.result["coverage"].items()
                if c["profile"][0] != c["profile"][1] and c["seen"] != [1, 1]
            )
            yield f" calibrated on {_source(step, built)}, {record.result['samples']} samples: {', '.join(covered)}"
    quantized = (p for c in built.plan.graph.components if c.quantized for p in c.parts if p.quantized)
    for c in (c for c in quantized if c.calibration.source is None):
        yield f" ranges of {c.name}: {c.calibration.ranges or c.calibration.name}"
    if "swaps" in built.records:
        swaps = built.records["swaps"].result
        told = (f"{name} {least_snr({'': wires}):.1f} dB" for name, wires in swaps["swaps"].items())
        yield f" end to end at {swaps['point']}, float32 but for: {', + '.join(told)}"


def _standing_by(components: Iterable[Component], built: Built) -> Iterator[str]:
    """`onnxruntime stands by, where an engine does not fit: vocoder (55.7 MB, 115.6 dB ≥ 60)`."""
    told: dict[str, list[str]] = {}
    for c in components:
        if c.stand_in is not None:
            size = megabytes(built.records[f"{c.name}.build{SUFFIX}"].result["size"])
            parity = _parity(built.records.get(f"{c.name}.verify{SUFFIX}"))[0]
            told.setdefault(c.stand_in.backend.name, []).append(f"{c.name} ({size}, {parity})")
    for name, engines in told.items():
        yield f" {name} stands by, where an engine does not fit: {', '.join(engines)}"


def _elsewhere(components: Iterable[Component], built: Built) -> Iterator[str]:
    """Of engines for other machines than this one, what was run in their place."""
    told: dict[tuple[str, str], list[str]] = {}
    every = list(components)
    for c in (c for c in every if not runs_here(c)):
        targets = ", ".join(built.records[engine_of(c)].inputs["fields"]["environment"]["compute_capabilities"])
        one = gate_subject(c)
        what = "run or measure them" if one else "run, measure or gate them"
        instead = f"; {one.backend.name} ran the graphs that they were made from" if one else ""
        told.setdefault((targets, f"{what}{instead}"), []).append(c.name)
    for (targets, what), names in told.items():
        whose = "engines" if len(names) == len(every) else f"engines of {', '.join(names)}"
        yield f" note: {whose} are for compute capability {targets}: nothing here can {what}"


def _noted(built: Built) -> Iterator[str]:
    """What steps say themselves, each under the name of its component."""
    for step, record in built.records.items():
        whose = step.rpartition(".")[0] or built.plan.graph.spec.pipeline.name
        yield from (f" note: {whose}: {note}" for note in record.result.get("notes", ()))


def _source(step: str, built: Built) -> str:
    """`speech`, or of a component's own samples `npy (encoder)`."""
    name, _, own = step.rpartition(".")
    if not own or not name:
        return step.removeprefix("coverage_")
    every = (p for c in built.plan.graph.components for p in (c, *c.members))
    return next(f"{p.calibration.name} ({name})" for p in every if p.name == name)


def _notes(c: Component, built: Built) -> Iterator[str]:
    """What a reader would otherwise take for granted."""
    record = built.records[engine_of(c)].result
    if retry := retry_of(record):
        options = ", ".join(f"{k}={v}" for k, v in backend_options(record).items())
        yield f" note: {c.name}: {c.backend.name} crashed ({retry.crash}); built with {options}, which goes round it"
    executed = record["delivered"].get("executed", {})
    precision = c.settled.precision
    if missed := record["delivered"].get("missed"):
        yield f" note: {c.name}: {missed} layers to be {c.precision.name} came out in a higher type; see task=inspect"
    heavy = record["delivered"].get("heavy", {})
    if "quantized_by" in record["delivered"] and heavy and precision.type not in heavy:
        preferred = precision.implicit is not None and precision.implicit.prefer_int8
        fix = "precision=int8 writes explicit pairs" if preferred else "precision.implicit.prefer_int8=true asks for it"
        yield f" note: {c.name}: the builder put none of {sum(heavy.values())} Conv/MatMul in {precision.type}; {fix}"
    if record["delivered"].get("told_by") == "inspector" and (hidden := record["delivered"].get("untold")):
        yield f" note: {c.name}: the inspector does not tell the type of {hidden} convolutions and products"
    nothing = (c.quantized and precision.type not in heavy) or c.prequantized
    if executed and precision.type not in executed and not nothing and "chosen" not in record:
        others = " and ".join(sorted(executed))
        yield f" note: {c.backend.name} here computes {precision.name} files in {others}, between casts"
    inside, run = heavy.get(c.precision.type, 0), executed.get(c.precision.type, 0)
    if c.quantized and 0 < run < inside:
        yield f" note: {c.name}: {inside - run} of {inside} {c.precision.name} nodes are not executed as such"
    if (_ratio(c, built) or 0) >= 1 and "chosen" not in record and c.higher:
        higher, name = c.higher.name, c.precision.name
        yield f" note: {c.name} is slower in {name} than in {higher}; only_if_faster=true keeps {higher} there"
    for part in c.parts:
        weights = built.records[export_of(part)].result.get("weights", {})
        if weights.get("missing"):
            share = f"{weights['loaded']} of {weights['loaded'] + weights['missing']} parameters"
            yield f" note: {part.name} has {share} from {weights['checkpoint']}, the rest is seeded"
    meant = any(c.precision.judged_as in by for m, by in c.gate.component.items() if m in AUDIO_METRICS)
    verify = built.records.get(f"{c.name}.verify")
    for wire in verify.result["untrained"] if verify and meant else ():
        yield f" note: no audio distances of {wire}: they mean nothing where weights are untrained"


def _spent(built: Built, *components: str) -> str:
    """Seconds of the steps that ran now; reused ones cost nothing."""
    planned = [p.step.id for name in components for p in built.plan.of(name)]
    spent = [built.ran[step].seconds for step in planned if step in built.ran]
    return seconds(sum(spent)) if spent else "reused"
