"""An executor whose every worker is a process of its own: one that dies takes one task with it, no more."""

from __future__ import annotations

import faulthandler
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import forkserver, resource_tracker
from multiprocessing.process import BaseProcess
from typing import Any, ParamSpec, TypeVar

from autovoice.errors import WorkerError
from autovoice.execution.worker_death import LOST, death, oom_kills
from autovoice.spec import WORKER

P = ParamSpec("P")
T = TypeVar("T")
#: what a worker takes to start where the fork server is ready
_START_SECONDS = 0.3


class WorkerExecutor(Executor):
    """Threads that each lend their task to a one-process pool, replaced when its process dies.

    A plain ProcessPoolExecutor fails all pending tasks when one worker is killed.
    """

    def __init__(
        self, workers: int, preload: Sequence[str] = (), tell: Callable[[str], object] = lambda text: None
    ) -> None:
        """`preload` are the modules that workers start with; `tell` is called with what a user should know."""
        if multiprocessing.get_start_method() not in multiprocessing.get_all_start_methods():
            # inside a worker of joblib, whose method of that name no child of ours would know
            multiprocessing.set_start_method("forkserver", force=True)
        # the fork server imports the heavy modules once; workers fork from it in milliseconds
        self._context = multiprocessing.get_context("forkserver")
        own = ("autovoice.execution.fork_server", "autovoice.execution.workers")
        self._context.set_forkserver_preload([*own, *preload])
        _start_tracker()
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="autovoice-step")
        self._local = threading.local()
        self._pools: set[ProcessPoolExecutor] = set()
        self._lock = threading.Lock()
        self._ending = threading.Lock()
        self._killed = False
        self._starting = _Count()
        self._tell = tell
        self._paths = list(sys.path)

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        return self._threads.submit(self._lend, fn, args, kwargs)

    def _lend(self, fn: Callable[..., T], args: tuple[Any, ...], kwargs: dict[str, Any]) -> T:
        again = False
        while True:
            before = oom_kills()
            pool, process, future = self._started(fn, args, kwargs)
            try:
                return future.result()
            except BrokenProcessPool as e:
                self._drop(pool)
                if process.exitcode != LOST or again or self._killed:
                    raise death(process.exitcode, before) from e
                # the fork server was killed: a new one starts with the next worker
                again = True
                self._tell("what starts workers was killed; the steps that ran are run again")

    def _started(
        self, fn: Callable[..., T], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[ProcessPoolExecutor, BaseProcess, Future[T]]:
        """The task on its way, and the process that it is given to."""
        again = False
        while True:
            pool = self._pool()
            try:
                with self._starting:
                    future = pool.submit(fn, *args, **kwargs)
                (process,) = pool._processes.values()
                if self._killed:  # since this task was taken
                    _kill_processes(pool)
                return pool, process, future
            except (OSError, EOFError, BrokenProcessPool) as e:  # died since its last task, or while it started
                self._drop(pool)
                if again or self._killed:
                    fix = "run it again; does something end processes of yours, or is there a limit to their number?"
                    raise WorkerError(f"no worker process could be started: {type(e).__name__}: {e}", fix) from e
                again = True

    def _pool(self) -> ProcessPoolExecutor:
        pool: ProcessPoolExecutor | None = getattr(self._local, "pool", None)
        if pool is None:
            _start_server()
            init = (self._paths,)
            pool = ProcessPoolExecutor(1, self._context, initializer=_start_worker, initargs=init)
            self._local.pool = pool
            with self._lock:
                self._pools.add(pool)
        return pool

    def _drop(self, pool: ProcessPoolExecutor) -> None:
        self._local.pool = None
        self._end(pool)  # its own thread has then learnt how the process ended

    def _end(self, pool: ProcessPoolExecutor) -> None:
        """Shut a pool down once it is idle or broken: one thread alone, since two would close its pipes twice."""
        with self._ending:
            if pool in self._pools:
                self._pools.discard(pool)
                pool.shutdown(wait=True, cancel_futures=True)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self._threads.shutdown(wait=wait, cancel_futures=cancel_futures)
        for pool in list(self._pools):
            pool.shutdown(wait=wait, cancel_futures=cancel_futures)

    def kill(self) -> None:
        """Stop everything now: pending tasks are cancelled, running ones die with their process."""
        self._killed = True
        self._threads.shutdown(wait=False, cancel_futures=True)
        with self._lock:
            pools = list(self._pools)
        for pool in pools:
            _kill_processes(pool)
        while not self._starting.over(_START_SECONDS):  # a fork server that still imports has no workers
            _kill_server()
        for pool in pools:  # takes no time, and left to the interpreter's exit it would race with it
            self._end(pool)


class _Count:
    """How many threads are inside of it."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._inside = 0

    def __enter__(self) -> None:
        self._add(1)

    def __exit__(self, *_: object) -> None:
        self._add(-1)

    def _add(self, number: int) -> None:
        with self._changed:
            self._inside += number
            self._changed.notify_all()

    def over(self, seconds: float) -> bool:
        """Whether all are out of it within so many seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: self._inside == 0, seconds)


def _start_server() -> None:
    """Start the fork server, unless it runs; signals find it when it is ready for them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _kill_server() -> None:
    pid = getattr(forkserver._forkserver, "_forkserver_pid", None)
    if pid is not None:
        os.kill(pid, signal.SIGKILL)


def _start_tracker() -> None:
    """Start the process that clears away after crashed workers, told not to warn of what it clears away."""
    ours = "ignore::UserWarning:multiprocessing.resource_tracker"
    sys.warnoptions.append(ours)  # what it starts with
    try:
        resource_tracker.ensure_running()
    finally:
        sys.warnoptions.remove(ours)


def _kill_processes(pool: ProcessPoolExecutor) -> None:
    for process in list((pool._processes or {}).values()):
        process.kill()


def _start_worker(paths: list[str]) -> None:
    os.environ[WORKER] = "1"
    faulthandler.enable(2)  # where native code crashes, the step's log has the Python stack
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the driver's to handle
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # the fork server's own way with it is not for its children
    sys.path[:] = [*paths, *(p for p in sys.path if p not in paths)]
    threading.Thread(target=_die_with_driver, daemon=True).start()


def _die_with_driver() -> None:
    """A killed driver tells no one, and the fork server outlives it for as long as one worker does."""
    driver = multiprocessing.parent_process()
    if driver is not None:
        driver.join()
        os.kill(os.getpid(), signal.SIGKILL)
