"""`task=explain component.x`: every field that changed against the last build, old → new.

What is to run is compared with the last build on the same backend in the same precision, what is reused with the last
one of all, from which it may differ.
"""

from __future__ import annotations

from autovoice.command.invocation import Invocation
from autovoice.plan.planner import changed
from autovoice.tasks.plan import headline
from autovoice.terminal.escape import say


def run(invocation: Invocation) -> int:
    print(headline(invocation))
    last = invocation.store.memory.last(invocation.graph.spec.pipeline.name)
    targets = invocation.settings.targets
    wanted = {p.name for c in invocation.graph.components if c.name in targets for p in (*c.members, c)}
    for planned in invocation.plan.steps:
        if wanted and planned.step.component not in wanted:
            continue
        verb = "reuse" if planned.record is not None else "run"
        say("", f" {planned.step.id}  {verb}  key {planned.key[:12]}")
        before = last.get(planned.step.id)
        reasons = planned.why
        if planned.record is not None and before is not None and before["key"] != planned.key:
            reasons = (
                *changed(before["inputs"], planned.inputs),
                "built like this before: that artefact is reused",
            )
        for why in reasons:
            say(f"   {why}")
        covers = ", ".join(
            f"{len(planned.inputs[part])} {part}" for part in ("fields", "needs", "files", "code", "tools")
        )
        say(f"   the key covers {covers}")
    return 0
