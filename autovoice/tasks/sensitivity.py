"""`task=sensitivity targets=[x]`: what quantizing each node alone costs, worst first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from autovoice.command.builds import result_of, run_steps
from autovoice.command.invocation import Invocation
from autovoice.errors import ConfigError, Fault
from autovoice.plan.rules.search import sensitivity_steps
from autovoice.spec import Component
from autovoice.store.names import RANKING
from autovoice.tasks.plan import tell
from autovoice.terminal.escape import escaped, say
from autovoice.terminal.table import table


def run(invocation: Invocation) -> int:
    invocation.check()
    components = quantized(invocation)
    tell(invocation.whole_graph)
    steps = sensitivity_steps(invocation.whole_graph, components)
    with invocation.store.in_use():
        records = run_steps(invocation, steps)
        for c in components:
            folder = invocation.store.folder(records[c.primary.step("sensitivity")].key)
            used = records[c.primary.step("sensitivity")].result["samples"]
            print(format_ranking(c.name, result_of(folder / RANKING), used), flush=True)
            say(str(folder / RANKING), "")
    return 0


def quantized(invocation: Invocation) -> list[Component]:
    """The components that `targets` names, or all, as far as their policy quantizes anything.

    Raises ConfigError where that is none.
    """
    wanted = invocation.settings.targets
    _check_whole(invocation)
    found = [c for c in invocation.whole_graph.components if c.quantized and (not wanted or c.name in wanted)]
    if not found:
        fact = f"{', '.join(wanted)}: quantizes nothing" if wanted else "no component quantizes anything"
        raise ConfigError([Fault("targets", fact, "precision=int8, and quantize.op_types of the component not empty")])
    for c in (c for c in found if c.calibration.source is None):
        fact = f"'{c.calibration.name}' has ranges alone, and nodes are tried on samples"
        fix = "calibration=npz calibration.files=data.npz"
        raise ConfigError([Fault(f"component.{c.name}.calibration", fact, fix)])
    # nodes are tried by explicit pairs, also where the engine's tool will choose for itself
    return [_explicit(c) if c.precision.implicit else c for c in found]


def _explicit(c: Component) -> Component:
    return replace(c, precision=replace(c.precision, implicit=None))


def _check_whole(invocation: Invocation) -> None:
    """Nodes are tried in a component's own graph; what is found there holds in what it is fused into."""
    targets = invocation.settings.targets
    faults = []
    for c in (c for c in invocation.graph.components if c.members and c.name in targets):
        fact = f"'{c.name}' is fused of {', '.join(m.name for m in c.members)}"
        fix = f"one after another: fuse=null targets=[{c.members[0].name}]; their policies hold in the fused one"
        faults.append(Fault("targets", fact, fix))
    if faults:
        raise ConfigError(faults)


def format_ranking(name: str, ranking: Sequence[Mapping[str, Any]], samples: int) -> str:
    """A row a node: how much it hurts alone, and what keeping it in floating point would cost."""
    if not ranking:
        return escaped(f" {name}: nothing to quantize")
    total = max(sum(r["macs"] for r in ranking), 1)
    ends = ranking[0]["pipeline_snr_db"] is not None
    head = [name, "weight", "alone", *(["at the end"] if ends else []), "work", "in the policy"]
    rows = [
        [
            r["node"],
            next(iter(r["weights"]), ""),
            f"{r['snr_db']:.1f} dB",
            *([f"{r['pipeline_snr_db']:.1f} dB"] if ends else []),
            f"{r['macs'] / total:.1%}",
            "yes" if r["chosen"] else "no",
        ]
        for r in ranking
    ]
    return f"{table(head, rows)}\n each node quantized alone, {samples} calibration samples"
