"""Calls in a forked child: what they do to a process, as a crash or a hang, they do to that one alone.

The child starts with everything imported that it needs, so it is a fresh process at a hundredth of the cost.
"""

from __future__ import annotations

import faulthandler
import importlib
import multiprocessing.util
import os
import pickle
import resource
import select
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any

from autovoice.errors import AutovoiceError
from autovoice.spec import WORKER

_MOST_SAID = 20_000


@dataclass(frozen=True)
class Ended:
    """How a call ended: returned, refused (an AutovoiceError), raised (another), died or hung; what it printed."""

    how: str
    value: Any
    said: str

    @property
    def why(self) -> str:
        return f"{self.how}: {self.value}"


class Child:
    """A call that runs in a forked child from now on. Start it from the main thread: a fork copies what others hold."""

    def __init__(self, call: Callable[[], Any], gigabytes: float | None = None) -> None:
        self._said = TemporaryFile()  # noqa: SIM115, closed when it is read
        self._reads, writes = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            os.close(self._reads)
            _child(call, writes, self._said.fileno(), gigabytes)
        os.close(writes)

    def ended(self, seconds: float = 30) -> Ended:
        """How it ended, within that time from now."""
        how, value = _awaited(self._pid, self._reads, seconds)
        return Ended(how, value, _text(self._said))


def forked(call: Callable[[], Any], seconds: float = 30, gigabytes: float | None = None) -> Ended:
    """Run `call` in a child, for no longer than `seconds`, with no more than that memory."""
    return Child(call, gigabytes).ended(seconds)


def _child(call: Callable[[], Any], pipe: int, said: int, gigabytes: float | None) -> None:
    try:
        _apart(said, said)
        if gigabytes is not None:
            resource.setrlimit(resource.RLIMIT_AS, (int(gigabytes * 2**30),) * 2)
        found = _called(call)
        with os.fdopen(pipe, "wb") as file:
            file.write(pickle.dumps(found))
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
    finally:
        os._exit(0)


def _apart(out: int, err: int) -> None:
    """Make a forked process one of its own: session, signals, standard files, no core dumps."""
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with open(os.devnull) as nothing:
        for number, fd in enumerate((nothing.fileno(), out, err)):
            os.dup2(fd, number)
    sys.stdout, sys.stderr = (os.fdopen(fd, "w", buffering=1, closefd=False) for fd in (1, 2))
    faulthandler.enable()


class Command:
    """`autovoice` with these arguments in that folder, in a process group of its own, worker processes and all."""

    def __init__(self, root: Path, arguments: Sequence[str], before: Callable[[], None] = lambda: None) -> None:
        self._said = [TemporaryFile() for _ in range(2)]  # noqa: SIM115, closed when they are read
        self._code: int | None = None
        self.pid = os.fork()
        if self.pid == 0:
            _command(root, arguments, before, [f.fileno() for f in self._said])

    def poll(self) -> int | None:
        """The exit code, negative for a signal; None while it runs."""
        if self._code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self._code = os.waitstatus_to_exitcode(status) if pid else None
        return self._code

    def finished(self, seconds: float = 60) -> tuple[int | None, str, str]:
        """(exit code, stdout, stderr); the code is None for one that had to be ended after that time."""
        end = time.monotonic() + seconds
        while (code := self.poll()) is None and time.monotonic() < end:
            time.sleep(0.002)
        if code is None:
            _end_group(self.pid)
            os.waitpid(self.pid, 0)
        out, err = (_text(f) for f in self._said)
        return code, out, err


def _text(file: IO[bytes]) -> str:
    with file:
        file.seek(0)
        return file.read(_MOST_SAID).decode(errors="replace")


def _command(root: Path, arguments: Sequence[str], before: Callable[[], None], said: Sequence[int]) -> None:
    code = 1
    try:
        _apart(*said)
        os.chdir(root)
        sys.argv = ["autovoice", *arguments]
        sys.modules["__main__"] = importlib.import_module("autovoice.__main__")  # what its workers import first
        before()
        try:
            importlib.import_module("autovoice.cli").main(list(arguments))
            code = 0
        except SystemExit as e:
            code = e.code if isinstance(e.code, int) else int(e.code is not None)
        except BaseException:
            traceback.print_exc()
        threading._shutdown()  # as an interpreter ends: what its libraries do then is part of the command
        multiprocessing.util._exit_function()
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
    finally:
        os._exit(code)


def _called(call: Callable[[], Any]) -> tuple[str, Any]:
    try:
        return "returned", call()
    except AutovoiceError as e:
        return "refused", str(e)
    except SystemExit as e:
        return "returned", e.code
    except BaseException as e:
        traceback.print_exc()
        return "raised", f"{type(e).__name__}: {e}"[:1000]


def _awaited(pid: int, pipe: int, seconds: float) -> tuple[str, Any]:
    end, content = time.monotonic() + seconds, b""
    with os.fdopen(pipe, "rb", buffering=0) as file:
        while (left := end - time.monotonic()) > 0 and select.select([file], [], [], left)[0]:
            piece = file.read(1 << 20)
            if not piece:
                break
            content += piece
        else:
            _end_group(pid)
            os.waitpid(pid, 0)
            return "hung", f"longer than {seconds:g} s"
    _, status = os.waitpid(pid, 0)
    _end_group(pid)
    if content:
        how, value = pickle.loads(content)
        return str(how), value
    return "died", f"signal {status & 127}"


def _end_group(pid: int) -> None:
    """Whatever a child has started goes with it."""
    with suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


class Inline(Executor):
    """Stands in for the executor of worker processes: steps run in the child itself, one after the other."""

    def __init__(self, *_: Any) -> None: ...

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as e:
            future.set_exception(e)
        return future

    def kill(self) -> None:
        """Nothing: no process is its own."""


def command(root: Path, arguments: Sequence[str]) -> Callable[[], Any]:
    """`autovoice` with these arguments in that folder, its steps run in the same process."""

    def call() -> Any:
        from autovoice import cli
        from autovoice.command import builds

        builds.WorkerExecutor = Inline  # type: ignore[assignment,misc]
        os.environ[WORKER] = "1"  # so that what a step prints goes to its log
        os.chdir(root)
        return cli.main(list(arguments))

    return call


def preload() -> None:
    """What children would import each for itself."""
    import hydra  # noqa: F401
    import onnx  # noqa: F401
    import onnxruntime  # noqa: F401

    from autovoice import Pipeline, cli  # noqa: F401
    from autovoice.command import builds  # noqa: F401
    from autovoice.publish import folder as publish  # noqa: F401
    from autovoice.steps import build, end_to_end, lower, reference_onnx, verify  # noqa: F401
    from autovoice.tasks import build as task  # noqa: F401
