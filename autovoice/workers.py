"""An executor whose every worker is a process of its own: one that dies takes one task with it, no more."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, ParamSpec, TypeVar

from autovoice.errors import StepError
from autovoice.spec import WORKER

P = ParamSpec("P")
T = TypeVar("T")


class WorkerExecutor(Executor):
    """Threads that each lend their task to a one-process pool, replaced when its process dies.

    A plain ProcessPoolExecutor fails all pending tasks when one worker is killed.
    """

    def __init__(self, workers: int, preload: Sequence[str] = ()) -> None:
        if multiprocessing.get_start_method() not in multiprocessing.get_all_start_methods():
            # inside a worker of joblib, whose method of that name no child of ours would know
            multiprocessing.set_start_method("forkserver", force=True)
        # the fork server imports the heavy modules once; workers fork from it in milliseconds
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["autovoice.fork_server", "autovoice.workers", *preload])
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="autovoice-step")
        self._local = threading.local()
        self._pools: set[ProcessPoolExecutor] = set()
        self._lock = threading.Lock()
        self._killed = False
        self._paths = list(sys.path)

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        return self._threads.submit(self._lend, fn, args, kwargs)

    def _lend(self, fn: Callable[..., T], args: tuple[Any, ...], kwargs: dict[str, Any]) -> T:
        pool = self._pool()
        try:
            future = pool.submit(fn, *args, **kwargs)
            if self._killed:  # since this task was taken
                _kill_processes(pool)
            return future.result()
        except BrokenProcessPool as e:
            self._drop(pool)
            fix = "out of memory? try workers=1, or smaller dims.*.max; the step's log may say more"
            raise StepError("its worker process was killed or crashed", fix) from e

    def _pool(self) -> ProcessPoolExecutor:
        pool: ProcessPoolExecutor | None = getattr(self._local, "pool", None)
        if pool is None:
            init = (self._paths,)
            pool = ProcessPoolExecutor(1, self._context, initializer=_start_worker, initargs=init)
            self._local.pool = pool
            with self._lock:
                self._pools.add(pool)
        return pool

    def _drop(self, pool: ProcessPoolExecutor) -> None:
        self._local.pool = None
        with self._lock:
            self._pools.discard(pool)
        pool.shutdown(wait=False)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self._threads.shutdown(wait=wait, cancel_futures=cancel_futures)
        for pool in self._pools:
            pool.shutdown(wait=wait, cancel_futures=cancel_futures)

    def kill(self) -> None:
        """Stop everything now: pending tasks are cancelled, running ones die with their process."""
        self._killed = True
        self._threads.shutdown(wait=False, cancel_futures=True)
        with self._lock:
            pools = list(self._pools)
        for pool in pools:
            _kill_processes(pool)
        for pool in pools:  # takes no time, and left to the interpreter's exit it would race with it
            pool.shutdown(wait=True, cancel_futures=True)


def _kill_processes(pool: ProcessPoolExecutor) -> None:
    for process in list((pool._processes or {}).values()):
        process.kill()


def _start_worker(paths: list[str]) -> None:
    os.environ[WORKER] = "1"
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
