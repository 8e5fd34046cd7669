"""`task=build`: what will run and why, the steps as they finish, and a table of what came out."""

from __future__ import annotations

from autovoice.command.builds import Built, build
from autovoice.command.invocation import Invocation
from autovoice.publish.summary import summary
from autovoice.runtime.manifest import NAME
from autovoice.tasks.plan import format_plan, headline
from autovoice.terminal.escape import escaped, say


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
    manifest = built.folder / NAME
    if working:
        print(f"\n{summary(built.account)}\n{escaped(str(manifest))}", flush=True)
        return built
    done = f"{'restored' if existed else 'wrote'} {', '.join(built.written)}" if built.written else "nothing to do"
    line = f"{invocation.title}: {done}, {len(built.account.steps)} steps reused → {manifest}"
    say(*invocation.graph.spec.notes, line)
    return built
