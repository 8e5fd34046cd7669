from __future__ import annotations

import subprocess
import sys

import pytest

GONE = """
import multiprocessing
from autovoice.execution import fork_server
lock = multiprocessing.Lock()
state = lock._semlock
multiprocessing.synchronize.SemLock.__setstate__(
    multiprocessing.synchronize.SemLock.__new__(multiprocessing.synchronize.SemLock),
    (state.handle, state.kind, state.maxvalue, "/nowhere"),
)
"""
ENDS = """
from autovoice.execution import fork_server
{before}
raise FileNotFoundError("the semaphore is gone")
"""


@pytest.mark.parametrize(
    ("before", "reported"),
    [("", True), ("fork_server._DRIVER = 2**31 - 1", False)],
    ids=["driver_lives", "driver_gone"],
)
def test_what_ends_a_worker_is_reported_where_somebody_waits_for_it(before: str, reported: bool) -> None:
    done = subprocess.run([sys.executable, "-c", ENDS.format(before=before)], capture_output=True, text=True)
    assert done.returncode == 1
    assert ("the semaphore is gone" in done.stderr) is reported
    assert reported or done.stderr == ""


def test_a_worker_that_its_driver_has_given_up_while_it_started_ends_in_silence() -> None:
    done = subprocess.run([sys.executable, "-c", GONE], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (1, "")
