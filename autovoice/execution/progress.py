"""Progress of a build: a live line a step on a terminal, a plain line a finished step elsewhere."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, TextIO

from autovoice.errors import AutovoiceError
from autovoice.execution.driver import Listener
from autovoice.machine.locks import Notices
from autovoice.plan.planner import Planned
from autovoice.store.artefacts import Record
from autovoice.terminal.escape import escaped, unguarded
from autovoice.terminal.table import seconds

if TYPE_CHECKING:
    from rich.console import Group


class PlainListener:
    """One line a finished step; for logs, pipes and CI."""

    def __init__(self, total: int, out: TextIO) -> None:
        self.total = total
        self.done = 0
        self.out = out
        self._notices = Notices()

    def started(self, planned: Planned) -> None:
        pass

    def finished(self, planned: Planned, record: Record) -> None:
        self._count()
        self._tell(self._line(planned, seconds(record.seconds)))

    def failed(self, planned: Planned, error: AutovoiceError) -> None:
        self._count()
        self._tell(self._line(planned, "FAILED"))

    def _line(self, planned: Planned, end: str) -> str:
        return f" [{self.done}/{self.total}] {escaped(planned.step.id):<34} {end}"

    def _tell(self, line: str) -> None:
        print(escaped(line), file=self.out, flush=True)

    def skipped(self, planned: Planned, need: str) -> None:
        self._count()

    def note(self, text: str) -> None:
        self._tell(f" note: {text}")

    def tick(self) -> None:
        for text in self._notices.new():
            self.note(text)

    def close(self) -> None:
        pass

    def _count(self) -> None:
        self.done += 1


class LiveListener(PlainListener):
    """Spinners with the time elapsed and what the step took last time, under the lines of finished steps.

    No percentage: no tool here can tell how far it is, and asking it slows it down.
    """

    def __init__(self, total: int, out: TextIO) -> None:
        from rich.console import Console
        from rich.live import Live

        super().__init__(total, out)
        self.running: dict[str, tuple[Planned, float]] = {}
        self.live = Live(
            console=Console(file=unguarded(out)), refresh_per_second=8, transient=True, get_renderable=self._view
        )
        self.live.start()

    def started(self, planned: Planned) -> None:
        self.running[planned.step.id] = (planned, time.monotonic())

    def finished(self, planned: Planned, record: Record) -> None:
        self.running.pop(planned.step.id, None)
        super().finished(planned, record)

    def failed(self, planned: Planned, error: AutovoiceError) -> None:
        self.running.pop(planned.step.id, None)
        super().failed(planned, error)

    def _tell(self, line: str) -> None:
        from rich.text import Text

        self.live.console.print(Text(escaped(line)))  # as it is: no markup, no emoji, no colours

    def close(self) -> None:
        self.live.stop()

    def _view(self) -> Group:
        from rich.console import Group
        from rich.spinner import Spinner
        from rich.text import Text

        now = time.monotonic()
        lines = []
        for name, (planned, since) in list(self.running.items()):
            last = f", last time {seconds(planned.last_seconds)}" if planned.last_seconds else ""
            spinner = Spinner("dots", Text(f"{escaped(name):<34} {seconds(now - since)}{last}"))
            spinner.start_time = since
            lines.append(spinner)
        return Group(*lines)


def listener(total: int, out: TextIO | None = None) -> Listener:
    """The one that suits where the output goes; without `out`, that is where everything is printed."""
    out = sys.stdout if out is None else out
    return LiveListener(total, out) if out.isatty() else PlainListener(total, out)
