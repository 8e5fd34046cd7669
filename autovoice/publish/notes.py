"""The notes below a build's table: a line each for what a reader would otherwise take for granted."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from autovoice.measure.gates import least_snr
from autovoice.publish.account import BuildAccount, ComponentAccount, EngineAccount
from autovoice.spec import AUDIO_METRICS
from autovoice.terminal.table import megabytes


def notes_of(account: BuildAccount, parity_of: Callable[[EngineAccount], str]) -> Iterator[str]:
    """All of them, each once; `parity_of` words how close an engine is."""
    yield from _calibrated(account)
    yield from _fallbacks(account, parity_of)
    yield from _elsewhere(account)
    yield from dict.fromkeys(n for c in account.components for n in component_notes(c))
    yield from dict.fromkeys(_of_steps(account))


def _calibrated(account: BuildAccount) -> Iterator[str]:
    """What scales were made from, and what each component costs at the pipeline's end."""
    for source, record in account.coverage.items():
        covered = (
            f"{dim} {c['seen'][0]} … {c['seen'][1]} of {c['profile'][0]} … {c['profile'][1]}"
            for dim, c in record.result["coverage"].items()
            if c["profile"][0] != c["profile"][1] and c["seen"] != [1, 1]
        )
        yield f" calibrated on {source}, {record.result['samples']} samples: {', '.join(covered)}"
    quantized = (p for c in account.graph.components if c.quantized for p in c.parts if p.quantized)
    for c in (c for c in quantized if c.calibration.source is None):
        yield f" ranges of {c.name}: {c.calibration.ranges or c.calibration.name}"
    if account.swaps is not None:
        swaps = account.swaps.result
        costs = (f"{name} {least_snr({'': wires}):.1f} dB" for name, wires in swaps["swaps"].items())
        yield f" end to end at {swaps['point']}, float32 but for: {', + '.join(costs)}"


def _fallbacks(account: BuildAccount, parity_of: Callable[[EngineAccount], str]) -> Iterator[str]:
    """`onnxruntime stands by, where an engine does not fit: vocoder (55.7 MB, 115.6 dB ≥ 60)`."""
    found: dict[str, list[str]] = {}
    for c in account.components:
        if c.fallback is not None:
            text = f"{c.name} ({megabytes(c.fallback.size)}, {parity_of(c.fallback)})"
            found.setdefault(c.fallback.variant.backend.name, []).append(text)
    for backend, engines in found.items():
        yield f" {backend} stands by, where an engine does not fit: {', '.join(engines)}"


def _elsewhere(account: BuildAccount) -> Iterator[str]:
    """Of engines for other machines than this one, what was run in their place."""
    found: dict[str, list[str]] = {}
    for c in (c for c in account.components if not c.runs_here):
        subject, environment = c.engine.subject, c.engine.environment or {}
        targets = environment.get("compute_capabilities")
        built_for = f"compute capability {', '.join(targets)}" if targets else "other machines than this one"
        cannot = "run or measure them" if subject else "run, measure or gate them"
        instead = f"; {subject.backend.name} ran the graphs that they were made from" if subject else ""
        found.setdefault(f"are for {built_for}: nothing here can {cannot}{instead}", []).append(c.name)
    for text, names in found.items():
        whose = "engines" if len(names) == len(account.components) else f"engines of {', '.join(names)}"
        yield f" note: {whose} {text}"


def _of_steps(account: BuildAccount) -> Iterator[str]:
    """What steps say themselves, each under the name of its component."""
    for step, notes in account.notes.items():
        whose = step.rpartition(".")[0] or account.graph.spec.pipeline.name
        yield from (f" note: {whose}: {note}" for note in notes)


def component_notes(account: ComponentAccount) -> Iterator[str]:
    yield from _retried(account)
    yield from _computed_otherwise(account)
    yield from _slower(account)
    yield from _seeded(account)


def _retried(account: ComponentAccount) -> Iterator[str]:
    engine = account.engine
    if engine.retry is not None:
        changed = engine.retry.fields.get("backend", {}).get("options", {})
        options = ", ".join(f"{k}={v}" for k, v in changed.items())
        how = f"{engine.variant.backend.name} crashed ({engine.retry.crash}); built with {options}"
        yield f" note: {account.name}: {how}, which goes round it"


def _computed_otherwise(account: ComponentAccount) -> Iterator[str]:
    """Where the engine computes in another type than the one that was asked for."""
    c, found = account.component, account.engine.delivered
    asked, precision = c.precision.name, c.primary.precision
    executed, heavy = found.get("executed") or {}, found.get("heavy") or {}
    if missed := found.get("missed"):
        yield f" note: {c.name}: {missed} layers to be {asked} came out in a higher type; see task=inspect"
    if "quantized_by" in found and heavy and precision.type not in heavy:
        preferred = precision.implicit is not None and precision.implicit.prefer_int8
        fix = "precision=int8 writes explicit pairs" if preferred else "precision.implicit.prefer_int8=true asks for it"
        yield f" note: {c.name}: the builder put none of {sum(heavy.values())} Conv/MatMul in {precision.type}; {fix}"
    if found.get("told_by") == "inspector" and (hidden := found.get("untold")):
        yield f" note: {c.name}: the inspector does not tell the type of {hidden} convolutions and products"
    nothing = (c.quantized and precision.type not in heavy) or c.prequantized
    if executed and precision.type not in executed and not nothing and not account.chosen:
        others = " and ".join(sorted(executed))
        yield f" note: {c.backend.name} here computes {precision.name} files in {others}, between casts"
    inside, run = heavy.get(c.precision.type, 0), executed.get(c.precision.type, 0)
    if c.quantized and 0 < run < inside:
        yield f" note: {c.name}: {inside - run} of {inside} {asked} nodes are not executed as such"


def _slower(account: ComponentAccount) -> Iterator[str]:
    c = account.component
    if (account.ratio or 0) >= 1 and not account.chosen and c.baseline:
        higher, name = c.baseline.precision.name, c.precision.name
        yield f" note: {c.name} is slower in {name} than in {higher}; only_if_faster=true keeps {higher} there"


def _seeded(account: ComponentAccount) -> Iterator[str]:
    """Which weights are not trained, and what cannot be judged for that."""
    c = account.component
    for part, export in account.exports.items():
        weights = export.result.get("weights", {})
        if weights.get("missing"):
            share = f"{weights['loaded']} of {weights['loaded'] + weights['missing']} parameters"
            yield f" note: {part} has {share} from {weights['checkpoint']}, the rest is seeded"
    gated = any(c.precision.judged_as in by for m, by in c.gate.component.items() if m in AUDIO_METRICS)
    verify = account.engine.verify
    for wire in verify.result["untrained"] if verify and gated else ():
        yield f" note: no audio distances of {wire}: they mean nothing where weights are untrained"
