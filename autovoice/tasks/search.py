"""`task=search targets=[x] output=x.yaml`: the cheapest exclusions that meet the gate, as YAML to commit."""

from __future__ import annotations

import glob
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from autovoice.command.builds import result_of, run_steps
from autovoice.command.invocation import Invocation
from autovoice.config.compose import conf_dir, user_tree
from autovoice.config.experiment import usage
from autovoice.errors import AutovoiceError, ConfigError, Fault
from autovoice.plan.rules.search import search_steps
from autovoice.plan.rules.step import policy
from autovoice.spec import Component
from autovoice.store.names import FOUND
from autovoice.store.output import Output
from autovoice.tasks.plan import tell
from autovoice.tasks.run import output_of
from autovoice.tasks.sensitivity import quantized
from autovoice.terminal.escape import escaped, say
from autovoice.terminal.overrides import setting

if TYPE_CHECKING:
    from autovoice.spec.fields import QuantizeField


def run(invocation: Invocation) -> int:
    """Write the policies found. Raises AutovoiceError where even nothing quantized misses the gate."""
    invocation.check()
    output = _output(invocation)
    target = output.path
    components = quantized(invocation)
    tell(invocation.whole_graph)
    steps = search_steps(invocation.whole_graph, components)
    with invocation.store.in_use():
        records = run_steps(invocation, steps)
        results = {c.name: _result(invocation, records[c.primary.step("search")].key) for c in components}
    lines = [summary(c, results[c.name]) for c in components]
    missed = [summary(c, results[c.name]) for c in components if not results[c.name]["met"]]
    if missed:
        fact = f"no exclusion meets the gate: {'; '.join(missed)}"
        raise AutovoiceError(fact, "gate.component asks for more than the component gives with nothing quantized")
    with output.open() as file:
        file.write(yaml_of(invocation, components, results, lines, target).encode())
    say(*lines, f"{target}: {_command(target, invocation)}")
    return 0


def _output(invocation: Invocation) -> Output:
    path = invocation.settings.output
    if path is None:
        fix = "output=my/conf/experiment/quantized.yaml; then experiment=quantized selects it"
        raise ConfigError([Fault("output", "task=search needs a file to write to", fix)])
    if path.suffix != ".yaml":
        raise ConfigError(
            [Fault("output", f"{path} is no .yaml file", setting("output", str(path.with_suffix(".yaml"))))]
        )
    if (conf_dir() / "experiment" / path.name).exists():
        fact = f"the shipped experiment '{path.stem}' would hide a file of that name"
        raise ConfigError([Fault("output", fact, setting("output", str(path.with_stem(f"my_{path.stem}"))))])
    output = output_of(invocation, {})
    output.check()
    return output


def _result(invocation: Invocation, key: str) -> dict[str, Any]:
    found: dict[str, Any] = result_of(invocation.store.folder(key) / FOUND)
    return found


def summary(c: Component, result: Mapping[str, Any]) -> str:
    """`vocoder: 5 of 78 nodes stay in floating point, 96.3% of the work is int8: 17.0 dB → 22.4 dB (max), 14 tried`."""
    left, every = len(result["excluded"]), len(result["excluded"]) + len(result["quantized"])
    before, after = result["before"], result["worst"]
    return (
        f"{c.name}: {left} of {every} nodes stay in floating point, {result['macs_share']:.1%} of the work is "
        f"{c.precision.name}: {before['snr_db']:.1f} dB → {after['snr_db']:.1f} dB ({after['point']}), "
        f"{len(result['tried'])} policies measured"
    )


def yaml_of(
    invocation: Invocation,
    components: Sequence[Component],
    results: Mapping[str, Mapping[str, Any]],
    lines: Sequence[str],
    target: Path,
) -> str:
    """A file of the group `experiment`: the policies found, over whatever the components say themselves."""
    data = {"component": {c.name: {"quantize": _policy(c, results[c.name])} for c in components}}
    head = ["# @package _global_", f"# {escaped(_command(target, invocation))}", "#", "# Found by task=search:"]
    body = yaml.safe_dump(data, sort_keys=False, width=100)
    return "\n".join([*head, *(f"# {escaped(line)}" for line in lines), body])


def _policy(c: Component, result: Mapping[str, Any]) -> QuantizeField:
    """The component's policy with what was found excluded; nothing at all where all of it was."""
    found = policy(c)
    if not result["quantized"]:
        return {**found, "op_types": []}
    return {**found, "exclude": [*found["exclude"], *(glob.escape(n) for n in result["patterns"])]}


def _command(target: Path, invocation: Invocation) -> str:
    return usage(target, user_tree(), invocation.overrides)
